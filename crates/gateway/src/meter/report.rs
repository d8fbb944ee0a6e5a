//! Usage as upstreams report it, and as streams show it.

use serde_json::Value;

/// Where the tokens of a usage come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UsageSource {
    /// The upstream reported them.
    Reported,
    /// They were counted from the events of a stream. Tokens that the model read are not known then.
    Counted,
    /// Nothing that was read tells of tokens.
    #[default]
    Nothing,
}

/// Tokens of one response, as they become known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tokens {
    /// Read, those from a cache included.
    read: Option<u64>,
    cached: u64,
    /// Written, as last reported.
    written: Option<u64>,
    /// Events that added text since.
    counted: u64,
}

impl Tokens {
    /// Tokens read and not from a cache, written, read from a cache.
    pub(super) fn counts(&self) -> (u64, u64, u64) {
        let read = self.read.unwrap_or(0);
        let cached = self.cached.min(read);
        (read.saturating_sub(cached), self.written.unwrap_or(0).saturating_add(self.counted), cached)
    }

    pub(super) const fn source(&self) -> UsageSource {
        match (self.written, self.read, self.counted) {
            // A report at the start of a stream is no report of what came after it.
            (Some(_), _, 0) | (None, Some(_), 0) => UsageSource::Reported,
            (None, None, 0) => UsageSource::Nothing,
            _ => UsageSource::Counted,
        }
    }

    pub(super) const fn tells_input(&self) -> bool {
        self.read.is_some()
    }

    pub(super) fn count(&mut self, tokens: u64) {
        self.counted = self.counted.saturating_add(tokens);
    }

    /// Takes a `usage` object in: what it names replaces what was known.
    pub(super) fn report(&mut self, usage: &Value) {
        let number = |path: &str| usage.pointer(path).and_then(Value::as_u64);
        let openai = number("/prompt_tokens").or_else(|| {
            // OpenAI's responses use Anthropic's names, with its own meaning: `input_tokens` has the cached ones in it.
            usage.pointer("/input_tokens_details").and_then(|_| number("/input_tokens"))
        });
        if let Some(read) = openai {
            self.read = Some(read);
            self.cached =
                number("/prompt_tokens_details/cached_tokens").or_else(|| number("/input_tokens_details/cached_tokens")).unwrap_or(0);
        } else if let Some(input) = number("/input_tokens") {
            // Anthropic: what is read from the cache and what is written to it stand beside `input_tokens`.
            let cached = number("/cache_read_input_tokens").unwrap_or(0);
            let created = number("/cache_creation_input_tokens").unwrap_or(0);
            self.read = Some(input.saturating_add(created).saturating_add(cached));
            self.cached = cached;
        }
        if let Some(written) = number("/completion_tokens").or_else(|| number("/output_tokens")) {
            self.written = Some(written);
            self.counted = 0;
        }
    }
}

/// The tokens that one event of a stream adds, when it is the only thing known of them.
pub(super) fn tokens_added(event: &Value) -> u64 {
    match event.get("choices").and_then(Value::as_array) {
        Some(choices) => choices.iter().map(added_by_choice).fold(0, u64::saturating_add),
        None => match event.get("type").and_then(Value::as_str) {
            Some("content_block_delta") => 1,
            Some(kind) if kind.starts_with("response.") && kind.ends_with(".delta") => 1,
            _ => 0,
        },
    }
}

fn added_by_choice(choice: &Value) -> u64 {
    let listed = choice.pointer("/logprobs/content").and_then(Value::as_array).map_or(0, Vec::len);
    if listed > 0 {
        return u64::try_from(listed).unwrap_or(u64::MAX);
    }
    let has_text = |value: Option<&Value>| value.and_then(Value::as_str).is_some_and(|text| !text.is_empty());
    let delta = choice.get("delta");
    let written = ["content", "reasoning_content", "reasoning", "refusal"]
        .iter()
        .any(|key| has_text(delta.and_then(|delta| delta.get(*key))));
    let called = delta.and_then(|delta| delta.get("tool_calls")).and_then(Value::as_array).is_some_and(|calls| {
        calls.iter().any(|call| ["/function/arguments", "/function/name"].iter().any(|path| has_text(call.pointer(path))))
    });
    u64::from(written || called || has_text(choice.get("text")))
}
