//! Routes as they are used: configuration that was checked.

use std::sync::Arc;
use std::time::Duration;

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Uri};
use millstream_tariff::{Price, Tariff, TariffVersion, Token, Unit};
use millstream_types::Amount;

use crate::config::{ChargeOn, LimitsSection, RouteSection, TimeoutsSection, WithoutUsage};
use crate::headers::HeaderRules;
use crate::pattern::{CleanPath, Pattern};
use crate::{ConfigError, GatewayConfig};

const REQUEST_BYTES_MAX: u64 = 10 * 1024 * 1024;
const RESPONSE_BYTES_MAX: u64 = 1024 * 1024 * 1024;
const OUTPUT_TOKENS_MAX: u64 = 4_096;
const IMAGES_MAX: u64 = 4;
const HOLD_BYTES_MAX: u64 = 1024 * 1024;
const FIRST_BYTE_SECS: u64 = 60;
const IDLE_SECS: u64 = 60;
const TOTAL_SECS: u64 = 300;

/// All routes, in the order in which they are tried.
#[derive(Debug)]
pub struct Routes {
    routes: Vec<Arc<Route>>,
}

/// One route.
#[derive(Debug)]
pub struct Route {
    pattern: Pattern,
    /// The path as it was written.
    pub(crate) path: String,
    /// Empty for all.
    pub(crate) methods: Vec<Method>,
    pub(crate) upstream: Option<UpstreamTarget>,
    pub(crate) pricing: Pricing,
    pub(crate) description: Option<String>,
    pub(crate) mime_type: Option<String>,
    pub(crate) without_usage: WithoutUsage,
    pub(crate) charge: ChargeOn,
    pub(crate) request_usage: bool,
    pub(crate) limits: Limits,
    pub(crate) timeouts: Timeouts,
    pub(crate) headers: HeaderRules,
}

/// How the price of a route is known.
#[derive(Clone, Debug)]
pub enum Pricing {
    /// It costs nothing.
    Free,
    /// It has a price of its own: the simple form, a card of one entry that only a restart changes.
    Price(Arc<Tariff>),
    /// The rate card of this name says it, as it holds when a request comes.
    Card(String),
}

/// Where requests go.
#[derive(Clone, Debug)]
pub(crate) struct UpstreamTarget {
    pub(crate) scheme: Scheme,
    pub(crate) authority: Authority,
    /// Without a slash at the end.
    pub(crate) base_path: String,
    pub(crate) http2: bool,
}

/// `[limits]` with defaults.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) request_bytes_max: u64,
    pub(crate) response_bytes_max: u64,
    pub(crate) output_tokens_max: u64,
    pub(crate) input_tokens_max: Option<u64>,
    pub(crate) images_max: u64,
    pub(crate) hold_bytes_max: u64,
}

/// `[timeouts]` with defaults.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeouts {
    pub(crate) first_byte: Duration,
    pub(crate) idle: Duration,
    pub(crate) total: Duration,
}

/// What was found for a request.
#[derive(Debug)]
pub(crate) enum Found<'a> {
    Route(&'a Arc<Route>),
    /// The path has routes, with other methods.
    OtherMethods(Vec<Method>),
    Nothing,
}

impl Routes {
    /// Checks the routes of a configuration. `proxied`: each must say where its requests go.
    ///
    /// # Errors
    /// [`ConfigError`], the first that is found.
    pub fn new(config: &GatewayConfig, token: &Token, proxied: bool) -> Result<Self, ConfigError> {
        // A facilitator needs to sell nothing itself.
        if config.routes.is_empty() && config.facilitator.is_none() {
            return Err(ConfigError::value("route", "there is none: write at least one [[route]]"));
        }
        let routes = config
            .routes
            .iter()
            .map(|route| Route::new(route, config, token, proxied).map(Arc::new))
            .collect::<Result<Vec<_>, _>>()?;
        for (at, route) in routes.iter().enumerate() {
            let twin = routes[..at].iter().find(|earlier| earlier.pattern == route.pattern && earlier.takes_all_of(route));
            if let Some(twin) = twin {
                return Err(ConfigError::value(
                    format!("route.path `{}`", route.path),
                    format!("it is never reached: the route `{}` before it takes its requests", twin.path),
                ));
            }
        }
        Ok(Self { routes })
    }

    /// Seconds that a delivery takes at most, on whichever route: until its first byte, and from there to its end.
    #[must_use]
    pub fn delivery_secs_max(&self) -> u64 {
        let longest = self.routes.iter().map(|route| route.timeouts.first_byte.saturating_add(route.timeouts.total)).max();
        longest.unwrap_or_default().as_secs()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Route> {
        self.routes.iter().map(AsRef::as_ref)
    }

    /// The first route that covers the path and takes the method; `any_method`: whatever its methods, for vouchers that come by `HEAD`.
    pub(crate) fn find(&self, method: &Method, path: &CleanPath, any_method: bool) -> Found<'_> {
        let mut others = Vec::new();
        for route in self.routes.iter().filter(|route| route.pattern.covers(path)) {
            if any_method || route.takes(method) {
                return Found::Route(route);
            }
            others.extend(route.methods.iter().cloned());
        }
        if others.is_empty() { Found::Nothing } else { Found::OtherMethods(others) }
    }
}

impl Route {
    /// The path as it was written.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// How its price is known.
    #[must_use]
    pub const fn pricing(&self) -> &Pricing {
        &self.pricing
    }

    /// The name of the card that says its price, if one does.
    #[must_use]
    pub fn card(&self) -> Option<&str> {
        match &self.pricing {
            Pricing::Card(name) => Some(name),
            Pricing::Free | Pricing::Price(_) => None,
        }
    }

    /// Whether its requests are read for what they may cost at such a price.
    pub(crate) fn reads_requests(&self, tariff: &Tariff) -> bool {
        let counts = |unit| tariff.price().counts(unit);
        self.request_usage || [Unit::InputToken, Unit::OutputToken, Unit::CachedToken, Unit::Image].into_iter().any(counts)
    }

    fn takes(&self, method: &Method) -> bool {
        self.methods.is_empty() || self.methods.contains(method) || (method == Method::HEAD && self.methods.contains(&Method::GET))
    }

    fn takes_all_of(&self, other: &Self) -> bool {
        self.methods.is_empty() || (!other.methods.is_empty() && other.methods.iter().all(|method| self.takes(method)))
    }

    fn new(section: &RouteSection, config: &GatewayConfig, token: &Token, proxied: bool) -> Result<Self, ConfigError> {
        let place = |key: &str| format!("route `{}`, {key}", section.path);
        let upstream = match &section.upstream {
            Some(url) => Some(UpstreamTarget::parse(url, section.upstream_http2, &place("upstream"))?),
            None if proxied => return Err(ConfigError::value(place("upstream"), "it is missing")),
            None => None,
        };
        let methods = section.methods.iter().map(|method| match method.parse::<Method>() {
            Ok(known) if KNOWN_METHODS.contains(&known) => Ok(known),
            _ => Err(ConfigError::value(place("methods"), format!("`{method}` is not a method that is proxied"))),
        });
        let pricing = match (&section.price, &section.card, section.free) {
            (Some(price), None, false) => {
                let name = section.tariff.clone().unwrap_or_else(|| tariff_name(&section.path));
                let version = TariffVersion::new(&name, section.tariff_version).map_err(ConfigError::price(place("tariff")))?;
                let price = Price::parse(price, token).map_err(ConfigError::price(place("price")))?;
                let minimum = section.minimum.as_deref().map(|minimum| token.parse_amount(minimum)).transpose();
                let minimum = minimum.map_err(ConfigError::price(place("minimum")))?.unwrap_or(Amount::ZERO);
                Pricing::Price(Arc::new(Tariff::new(version, price, minimum)))
            }
            (None, Some(card), false) => {
                if section.minimum.is_some() || section.tariff.is_some() {
                    return Err(ConfigError::value(place("card"), "`minimum` and `tariff` are the card's: leave them out"));
                }
                TariffVersion::new(card, 1).map_err(ConfigError::price(place("card")))?;
                Pricing::Card(card.clone())
            }
            (None, None, true) => Pricing::Free,
            _ => return Err(ConfigError::value(place("price"), "a route has exactly one of `price`, `card` and `free = true`")),
        };
        let route = Self {
            pattern: Pattern::parse(&section.path)?,
            path: section.path.clone(),
            methods: methods.collect::<Result<_, _>>()?,
            upstream,
            pricing,
            description: section.description.clone(),
            mime_type: section.mime_type.clone(),
            without_usage: section.without_usage,
            charge: section.charge,
            request_usage: section.request_usage,
            limits: Limits::new(&section.limits, &config.limits),
            timeouts: Timeouts::new(&section.timeouts, &config.timeouts, &place("timeouts"))?,
            headers: HeaderRules::new(&section.headers, &place("headers"))?,
        };
        if let Pricing::Price(tariff) = &route.pricing {
            // The dearest request that is let in must be something that can be paid.
            let bound = route.dearest();
            tariff.ceiling_up(&bound).map_err(|error| ConfigError::value(place("price"), format!("with these limits {error}")))?;
        }
        Ok(route)
    }
}

const KNOWN_METHODS: [Method; 7] = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];

/// A tariff's name made of a path: letters and digits, and `-` between them.
fn tariff_name(path: &str) -> String {
    let words: Vec<&str> = path.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let name = words.join("-");
    if name.is_empty() { "all".to_owned() } else { name.chars().take(64).collect() }
}

impl UpstreamTarget {
    fn parse(url: &str, http2: bool, place: &str) -> Result<Self, ConfigError> {
        let refuse = |reason: &str| ConfigError::value(place, reason);
        let uri: Uri = url.parse().map_err(|_| refuse("it is not a URL such as http://127.0.0.1:8000"))?;
        let parts = uri.into_parts();
        let scheme = parts.scheme.filter(|scheme| *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS);
        let scheme = scheme.ok_or_else(|| refuse("it must begin with http:// or https://"))?;
        let authority = parts.authority.ok_or_else(|| refuse("it names no host"))?;
        if authority.as_str().contains('@') {
            return Err(refuse("credentials do not belong into a URL: use headers.credential"));
        }
        let path = parts.path_and_query.unwrap_or_else(|| PathAndQuery::from_static("/"));
        if path.query().is_some() {
            return Err(refuse("it must not have a query"));
        }
        Ok(Self { scheme, authority, base_path: path.path().trim_end_matches('/').to_owned(), http2 })
    }

    /// The address of a request: the base path with the request's own path and query after it, as they were written.
    pub(crate) fn uri(&self, request: &Uri) -> Result<Uri, http::Error> {
        let path = request.path_and_query().map_or("/", PathAndQuery::as_str);
        Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query(format!("{}{path}", self.base_path))
            .build()
    }
}

impl Limits {
    fn new(own: &LimitsSection, all: &LimitsSection) -> Self {
        let pick = |own: Option<u64>, all: Option<u64>, default| own.or(all).unwrap_or(default);
        Self {
            request_bytes_max: pick(own.request_bytes_max, all.request_bytes_max, REQUEST_BYTES_MAX),
            response_bytes_max: pick(own.response_bytes_max, all.response_bytes_max, RESPONSE_BYTES_MAX),
            output_tokens_max: pick(own.output_tokens_max, all.output_tokens_max, OUTPUT_TOKENS_MAX),
            input_tokens_max: own.input_tokens_max.or(all.input_tokens_max),
            images_max: pick(own.images_max, all.images_max, IMAGES_MAX),
            hold_bytes_max: pick(own.hold_bytes_max, all.hold_bytes_max, HOLD_BYTES_MAX),
        }
    }
}

impl Timeouts {
    fn new(own: &TimeoutsSection, all: &TimeoutsSection, place: &str) -> Result<Self, ConfigError> {
        let pick = |key: &str, own: Option<u64>, all: Option<u64>, default| match own.or(all).unwrap_or(default) {
            secs @ 1..=86_400 => Ok(Duration::from_secs(secs)),
            _ => Err(ConfigError::value(format!("{place}.{key}"), "it must be 1 to 86400 seconds")),
        };
        Ok(Self {
            first_byte: pick("first_byte_secs", own.first_byte_secs, all.first_byte_secs, FIRST_BYTE_SECS)?,
            idle: pick("idle_secs", own.idle_secs, all.idle_secs, IDLE_SECS)?,
            total: pick("total_secs", own.total_secs, all.total_secs, TOTAL_SECS)?,
        })
    }

    pub(crate) fn total_millis(&self) -> u64 {
        u64::try_from(self.total.as_millis()).unwrap_or(u64::MAX)
    }
}
