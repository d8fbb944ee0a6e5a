//! `millstream policy`: what limits say, why a payment was refused, and the red button.

use clap::{Args, Subcommand};
use millstream_client::http::{ApprovalView, ControlError, DecisionView, OrderError, PolicyOrder, PolicyReply, PolicyView, send_order};
use serde::Serialize;

use super::SpendArgs;
use crate::admin::Admin;
use crate::context::{self, Context};
use crate::error::{CliError, CliResult, chain_of};
use crate::output::{View, columns, pairs};

/// `policy`.
#[derive(Subcommand, Clone, Debug)]
pub enum PolicyCommand {
    /// Show what is spent and held of each budget, what is paused, granted and waits
    Show(PlainArgs),
    /// List the newest decisions
    Decisions(DecisionsArgs),
    /// Explain a decision: what was compared, and what refused it
    Explain(ExplainArgs),
    /// Stop everything, or one agent, payee, category or route, at once
    Pause(PauseArgs),
    /// End a pause; a breaker that tripped counts anew
    Resume(ResumeArgs),
    /// List what waits for an approval
    Approvals(PlainArgs),
    /// Approve what waits: it goes on when it is asked again
    Approve(NumberArgs),
    /// Deny what waits
    Deny(NumberArgs),
    /// Give an agent a part of what another one may spend
    Grant(GrantArgs),
    /// Take such a part back
    Revoke(NumberArgs),
}

/// Whose policy.
#[derive(Args, Clone, Debug)]
pub struct WhoseArgs {
    /// Of a gateway, whose customers spend, by its admin listener; without this of the payer
    #[arg(long, value_name = "URL")]
    pub gateway: Option<String>,
    /// Whose money.
    #[command(flatten)]
    pub spend: SpendArgs,
}

/// `policy show`, `policy approvals`.
#[derive(Args, Clone, Debug)]
pub struct PlainArgs {
    /// Whose policy.
    #[command(flatten)]
    pub whose: WhoseArgs,
}

/// `policy decisions`.
#[derive(Args, Clone, Debug)]
pub struct DecisionsArgs {
    /// How many, at most 1,000
    #[arg(long, value_name = "COUNT", default_value_t = 20)]
    pub count: usize,
    /// Whose policy.
    #[command(flatten)]
    pub whose: WhoseArgs,
}

/// `policy explain`.
#[derive(Args, Clone, Debug)]
pub struct ExplainArgs {
    /// The decision's number, or the id of the request
    #[arg(value_name = "ID")]
    pub id: String,
    /// Whose policy.
    #[command(flatten)]
    pub whose: WhoseArgs,
}

/// `policy pause`.
#[derive(Args, Clone, Debug)]
pub struct PauseArgs {
    /// What: all, or agent=NAME, key=ADDRESS, payee=ADDRESS, category=NAME, route=HOST
    #[arg(value_name = "WHAT", default_value = "all")]
    pub scope: String,
    /// Why, for whoever meets it
    #[arg(long, value_name = "WORDS", default_value = "by order")]
    pub reason: String,
    /// Whose policy.
    #[command(flatten)]
    pub whose: WhoseArgs,
}

/// `policy resume`.
#[derive(Args, Clone, Debug)]
pub struct ResumeArgs {
    /// What, as `policy show` has it
    #[arg(value_name = "WHAT", default_value = "all")]
    pub scope: String,
    /// Whose policy.
    #[command(flatten)]
    pub whose: WhoseArgs,
}

/// `policy approve`, `policy deny`, `policy revoke`.
#[derive(Args, Clone, Debug)]
pub struct NumberArgs {
    /// Its number
    #[arg(value_name = "NUMBER")]
    pub number: u64,
    /// Whose policy.
    #[command(flatten)]
    pub whose: WhoseArgs,
}

/// `policy grant`.
#[derive(Args, Clone, Debug)]
pub struct GrantArgs {
    /// Who gives; its budgets count all of it
    #[arg(long, value_name = "AGENT")]
    pub from: String,
    /// Who gets; from then on it spends nothing else
    #[arg(long, value_name = "AGENT")]
    pub to: String,
    /// How much, in whole tokens and their symbol
    #[arg(long = "up-to", value_name = "AMOUNT")]
    pub up_to: String,
    /// Only for this payee; may be given several times, `*` stands for anything
    #[arg(long, value_name = "PATTERN")]
    pub payee: Vec<String>,
    /// Only for this category
    #[arg(long, value_name = "PATTERN")]
    pub category: Vec<String>,
    /// Only for this host
    #[arg(long, value_name = "PATTERN")]
    pub route: Vec<String>,
    /// It ends after so many seconds
    #[arg(long, value_name = "SECONDS")]
    pub expires_in: Option<u64>,
    /// Whose policy.
    #[command(flatten)]
    pub whose: WhoseArgs,
}

#[derive(Serialize)]
#[serde(transparent)]
struct ShowView(PolicyView);

#[derive(Serialize)]
#[serde(transparent)]
struct DecisionsView(Vec<DecisionView>);

#[derive(Serialize)]
#[serde(transparent)]
struct ExplainView(DecisionView);

#[derive(Serialize)]
#[serde(transparent)]
struct ApprovalsView(Vec<ApprovalView>);

#[derive(Serialize)]
struct DoneView {
    done: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    grants: Vec<u64>,
}

fn approvals(rows: &[ApprovalView]) -> String {
    let rows = rows.iter().map(|row| {
        let price = format!("{} {}", row.price, row.symbol);
        vec![row.approval.to_string(), row.state.clone(), row.agent.clone(), row.route.clone(), row.payee.clone(), price]
    });
    columns(&["approval", "state", "agent", "route", "payee", "price at most"], &[0, 5], rows)
}

impl View for ShowView {
    fn table(&self) -> String {
        let PolicyView { counters, pauses, approvals: waiting, grants } = &self.0;
        let mut parts = Vec::new();
        if !pauses.is_empty() {
            let rows = pauses
                .iter()
                .map(|pause| vec![pause.scope.clone(), pause.breaker.clone().unwrap_or_else(|| "by order".to_owned()), pause.why.clone()]);
            parts.push(columns(&["paused", "by", "why"], &[], rows));
        }
        let rows = counters.iter().map(|row| {
            vec![
                row.rule.clone(),
                row.of.clone(),
                row.window.clone(),
                row.spent.to_string(),
                row.held.to_string(),
                row.max.to_string(),
                if row.symbol.is_empty() { format!("{} under way", row.running) } else { row.symbol.clone() },
            ]
        });
        parts.push(columns(&["budget", "of", "window", "spent", "held", "at most", "token"], &[3, 4, 5], rows));
        if !waiting.is_empty() {
            parts.push(approvals(waiting));
        }
        if !grants.is_empty() {
            let rows = grants.iter().map(|row| {
                let grant = row.grant.to_string();
                vec![
                    grant,
                    row.parent.clone(),
                    row.child.clone(),
                    row.spent.to_string(),
                    row.held.to_string(),
                    row.max.to_string(),
                    row.symbol.clone(),
                    row.state.clone(),
                ]
            });
            parts.push(columns(&["grant", "from", "to", "spent", "held", "at most", "token", "state"], &[0, 3, 4, 5], rows));
        }
        parts.join("\n\n")
    }
}

fn verdict(row: &DecisionView) -> String {
    match &row.reason {
        Some(reason) => format!("{}: {}", row.verdict, reason.text),
        None => row.verdict.clone(),
    }
}

impl View for DecisionsView {
    fn table(&self) -> String {
        let rows = self.0.iter().map(|row| {
            let price = format!("{} {}", row.price, row.symbol);
            vec![row.decision.to_string(), row.agent.clone(), row.route.clone(), price, verdict(row)]
        });
        columns(&["decision", "agent", "route", "price at most", "verdict"], &[0, 3], rows)
    }
}

impl View for ExplainView {
    fn table(&self) -> String {
        let row = &self.0;
        let facts = pairs([
            ("decision", row.decision.to_string()),
            ("verdict", verdict(row)),
            ("agent", row.agent.clone()),
            ("route", row.route.clone()),
            ("payee", row.payee.clone()),
            ("category", row.category.clone()),
            ("price at most", format!("{} {}", row.price, row.symbol)),
            ("adds", row.adds.to_string()),
        ]);
        let checks = row.checks.iter().map(|check| {
            vec![check.rule.clone(), check.of.clone(), check.before.to_string(), check.after.to_string(), check.max.to_string()]
        });
        let checks = columns(&["rule", "of", "before", "after", "at most"], &[2, 3, 4], checks);
        let shadowed = row.shadowed.iter().map(|reason| format!("\nin shadow mode: {}", reason.text)).collect::<String>();
        format!("{facts}\n\n{checks}{shadowed}")
    }
}

impl View for ApprovalsView {
    fn table(&self) -> String {
        approvals(&self.0)
    }
}

impl View for DoneView {
    fn table(&self) -> String {
        match self.grants.as_slice() {
            [] => self.done.clone(),
            grants => format!("{}: {}", self.done, grants.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")),
        }
    }
}

impl PolicyCommand {
    fn order(&self) -> (PolicyOrder, &WhoseArgs, String) {
        match self {
            Self::Show(args) => (PolicyOrder::Show, &args.whose, String::new()),
            Self::Decisions(args) => (PolicyOrder::Decisions { count: args.count }, &args.whose, String::new()),
            Self::Explain(args) => (PolicyOrder::Explain { of: args.id.clone() }, &args.whose, String::new()),
            Self::Approvals(args) => (PolicyOrder::Approvals, &args.whose, String::new()),
            Self::Pause(args) => {
                let order = PolicyOrder::Pause { scope: args.scope.clone(), why: args.reason.clone() };
                (order, &args.whose, format!("{} is paused", args.scope))
            }
            Self::Resume(args) => (PolicyOrder::Resume { scope: args.scope.clone() }, &args.whose, format!("{} goes on", args.scope)),
            Self::Approve(args) => {
                let done = format!("approval {} is given: the request goes on when it is asked again", args.number);
                (PolicyOrder::Approve { number: args.number }, &args.whose, done)
            }
            Self::Deny(args) => (PolicyOrder::Deny { number: args.number }, &args.whose, format!("approval {} is denied", args.number)),
            Self::Revoke(args) => (PolicyOrder::Revoke { number: args.number }, &args.whose, format!("{} is taken back", args.number)),
            Self::Grant(args) => {
                let order = PolicyOrder::Grant {
                    parent: args.from.clone(),
                    child: args.to.clone(),
                    max: args.up_to.clone(),
                    payees: args.payee.clone(),
                    categories: args.category.clone(),
                    routes: args.route.clone(),
                    expires_in_secs: args.expires_in,
                };
                (order, &args.whose, "given".to_owned())
            }
        }
    }
}

/// A wrong address has the flag's own code.
fn gateway_at(url: &str) -> CliResult<Admin> {
    context::admin_named("--gateway", url).map_err(|error| match error.code.as_str() {
        "admin_url" => CliError { code: "gateway".to_owned(), ..error },
        _ => error,
    })
}

/// Runs a command: on the book, or where a proxy has it by that one.
///
/// # Errors
/// The profile or the order is wrong, or the book cannot be used.
pub async fn run(context: &Context, command: &PolicyCommand) -> CliResult<()> {
    let (order, WhoseArgs { gateway, spend }, done) = command.order();
    let reply = match gateway {
        Some(url) => gateway_at(url)?.policy(&order).await?,
        None => match spend.payer(context).await {
            Ok(payer) => payer.order(order).await?,
            // Whoever has the book carries it out.
            Err(error) if error.code == "book_in_use" => send_order(&spend.book_path(context)?, &order).await?,
            Err(error) => return Err(error),
        },
    };
    match reply {
        PolicyReply::Policy(view) => context.output.show(&ShowView(*view)),
        PolicyReply::Approvals(rows) => context.output.show(&ApprovalsView(rows)),
        PolicyReply::Decisions(mut rows) => match (command, rows.pop()) {
            (PolicyCommand::Explain(_), Some(row)) => context.output.show(&ExplainView(row)),
            (_, last) => {
                rows.extend(last);
                context.output.show(&DecisionsView(rows))
            }
        },
        PolicyReply::Granted(grants) => context.output.show(&DoneView { done, grants }),
        PolicyReply::Done => context.output.show(&DoneView { done, grants: Vec::new() }),
    }
}

impl From<ControlError> for CliError {
    fn from(error: ControlError) -> Self {
        let message = chain_of(&error);
        match error {
            ControlError::Order(OrderError::Ledger(_)) | ControlError::Refused(_) => Self::refused("policy_order_refused", message),
            ControlError::Order(_) => Self::usage("policy_order", message),
            ControlError::Socket { .. } => Self::unavailable("book_in_use", message)
                .hint("another command has the book for a moment, or a program that takes no orders: stop it, and try again"),
            ControlError::Book(_) => Self::failed("book", message),
        }
    }
}
