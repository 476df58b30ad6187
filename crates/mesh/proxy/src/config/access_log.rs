//! `AccessLog`: what is logged, how, and where to.

use std::collections::BTreeMap;
use std::sync::Arc;

use envoy_types::pb::envoy::config::accesslog::v3 as pb;
use envoy_types::pb::envoy::config::accesslog::v3::access_log::ConfigType;
use envoy_types::pb::envoy::config::accesslog::v3::access_log_filter::FilterSpecifier;
use envoy_types::pb::envoy::config::accesslog::v3::{comparison_filter, extension_filter};
use envoy_types::pb::envoy::config::core::v3::SubstitutionFormatString;
use envoy_types::pb::envoy::config::core::v3::substitution_format_string::Format as FormatKind;
use envoy_types::pb::envoy::extensions::access_loggers::file::v3::FileAccessLog;
use envoy_types::pb::envoy::extensions::access_loggers::filters::cel::v3::ExpressionFilter;
use envoy_types::pb::envoy::extensions::access_loggers::file::v3::file_access_log::AccessLogFormat;
use envoy_types::pb::envoy::extensions::access_loggers::open_telemetry::v3::OpenTelemetryAccessLogConfig;
use envoy_types::pb::envoy::extensions::access_loggers::stream::v3::{
    StderrAccessLog, StdoutAccessLog, stderr_access_log, stdout_access_log,
};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::HcmAccessLogOptions;
use envoy_types::pb::envoy::r#type::v3::FractionalPercent;
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{Struct, Value};
use periplus_cel::Expression;
use prost::Name as _;

use super::check::{At, Refused, decode, ignored, nothing_else, short_type};
use super::{data, fraction, matcher, otel_log};
use crate::flags::Flag;
use crate::snapshot::AccessLog;
use crate::telemetry::Outlet;
use crate::telemetry::log::{
    Comparison, Destination, Filter, Format, Json, Node, Object, Op, Template, is_known_flag,
};

pub(super) fn compile(
    logs: Vec<pb::AccessLog>,
    at: &At<'_>,
) -> Result<Vec<Arc<AccessLog>>, Refused> {
    let logs = logs.into_iter().enumerate();
    logs.map(|(index, log)| one(log, &at.index(index)).map(Arc::new))
        .collect()
}

/// Accepts what asks for no other lines than those at the end.
pub(super) fn at_the_end_only(options: HcmAccessLogOptions, at: &At<'_>) -> Result<(), Refused> {
    nothing_else(&options, at)
}

fn one(log: pb::AccessLog, at: &At<'_>) -> Result<AccessLog, Refused> {
    let filter = match log.filter {
        Some(filter) => compile_filter(filter, &at.field("filter"))?,
        None => Filter::All,
    };
    let Some(ConfigType::TypedConfig(config)) = log.config_type else {
        return Err(at.field("typed_config").refuse("it must be given"));
    };
    let at_config = &at.field("typed_config");
    let kind = short_type(&config.type_url);
    let (outlet, format) = if kind == FileAccessLog::full_name() {
        file(decode(&config, at_config)?, at_config)?
    } else if kind == StdoutAccessLog::full_name() {
        let config: StdoutAccessLog = decode(&config, at_config)?;
        let given = config.access_log_format;
        let given = given.map(|stdout_access_log::AccessLogFormat::LogFormat(given)| given);
        (
            Outlet::Lines(Destination::Stdout),
            log_format(given, at_config)?,
        )
    } else if kind == StderrAccessLog::full_name() {
        let config: StderrAccessLog = decode(&config, at_config)?;
        let given = config.access_log_format;
        let given = given.map(|stderr_access_log::AccessLogFormat::LogFormat(given)| given);
        (
            Outlet::Lines(Destination::Stderr),
            log_format(given, at_config)?,
        )
    } else if kind == OpenTelemetryAccessLogConfig::full_name() {
        let (collector, record) = otel_log::compile(decode(&config, at_config)?, at_config)?;
        (Outlet::Records(collector.into()), Format::Record(record))
    } else {
        return Err(at.refuse(format!(
            "access log {:?} ({kind}) is not supported, only files, stdout, stderr and OpenTelemetry are",
            log.name
        )));
    };
    Ok(AccessLog {
        filter,
        format,
        outlet,
    })
}

fn file(mut config: FileAccessLog, at: &At<'_>) -> Result<(Outlet, Format), Refused> {
    let path = std::mem::take(&mut config.path);
    let at_path = at.field("path");
    if path.is_empty() {
        return Err(at_path.refuse("it must not be empty"));
    }
    let destination = Destination::of_path(&path);
    if let Destination::File(path) = &destination {
        Destination::open(path)
            .map_err(|error| at_path.refuse(format!("cannot open {path:?}: {error}")))?;
    }
    let format = match config.access_log_format {
        None => log_format(None, at)?,
        Some(AccessLogFormat::LogFormat(format)) => log_format(Some(format), at)?,
        Some(AccessLogFormat::Format(text)) => text_format(&text, false, &at.field("format"))?,
        Some(AccessLogFormat::JsonFormat(format)) => {
            json_format(format, false, &at.field("json_format"))?
        }
        Some(AccessLogFormat::TypedJsonFormat(format)) => {
            json_format(format, false, &at.field("typed_json_format"))?
        }
    };
    Ok((Outlet::Lines(destination), format))
}

fn log_format(given: Option<SubstitutionFormatString>, at: &At<'_>) -> Result<Format, Refused> {
    let at = &at.field("log_format");
    let Some(mut given) = given else {
        return Format::default_text().map_err(|error| at.refuse(error));
    };
    let omits = std::mem::take(&mut given.omit_empty_values);
    let format = match given.format.take() {
        Some(FormatKind::TextFormat(text)) => text_format(&text, omits, &at.field("text_format"))?,
        Some(FormatKind::TextFormatSource(source)) => {
            let at = &at.field("text_format_source");
            let source = data::compile(Some(source), at)?;
            let text = source.load().map_err(|error| at.refuse(error))?;
            let text = std::str::from_utf8(&text).map_err(|_| at.refuse("it is not UTF-8"))?;
            text_format(text, omits, at)?
        }
        Some(FormatKind::JsonFormat(format)) => {
            json_format(format, omits, &at.field("json_format"))?
        }
        None => return Err(at.refuse("a format must be given")),
    };
    // Keys are sorted anyway; a line of a file has no content type.
    ignored!(given: json_format_options, content_type);
    nothing_else(&given, at)?;
    Ok(format)
}

fn text_format(text: &str, omits: bool, at: &At<'_>) -> Result<Format, Refused> {
    template(text, omits, at).map(Format::Text)
}

pub(super) fn template(text: &str, omits: bool, at: &At<'_>) -> Result<Template, Refused> {
    Template::parse(text, omits).map_err(|error| at.refuse(error))
}

fn json_format(format: Struct, omits: bool, at: &At<'_>) -> Result<Format, Refused> {
    let object = object(format, omits, at)?;
    Ok(Format::Json(Json { object, omits }))
}

fn object(given: Struct, omits: bool, at: &At<'_>) -> Result<Object, Refused> {
    let fields = given.fields.into_iter();
    let nodes: Result<BTreeMap<_, _>, _> = fields
        .map(|(key, value)| {
            let node = node(value, omits, &at.field(&key))?;
            Ok((key, node))
        })
        .collect();
    nodes.map(Object::from)
}

fn node(value: Value, omits: bool, at: &At<'_>) -> Result<Node, Refused> {
    Ok(match value.kind {
        None | Some(Kind::NullValue(_)) => Node::Fixed("null".to_owned()),
        Some(Kind::NumberValue(number)) => Node::Fixed(number.to_string()),
        Some(Kind::BoolValue(value)) => Node::Fixed(value.to_string()),
        Some(Kind::StringValue(text)) => Node::from(template(&text, omits, at)?),
        Some(Kind::StructValue(given)) => Node::Object(object(given, omits, at)?),
        Some(Kind::ListValue(list)) => {
            let values = list.values.into_iter().enumerate();
            let nodes = values.map(|(index, value)| node(value, omits, &at.index(index)));
            Node::List(nodes.collect::<Result<_, _>>()?)
        }
    })
}

fn compile_filter(filter: pb::AccessLogFilter, at: &At<'_>) -> Result<Filter, Refused> {
    let all = |filters: Vec<pb::AccessLogFilter>, at: &At<'_>| {
        if filters.len() < 2 {
            return Err(at.refuse("it must have at least two filters"));
        }
        let filters = filters.into_iter().enumerate();
        filters
            .map(|(index, filter)| compile_filter(filter, &at.index(index)))
            .collect::<Result<Vec<_>, _>>()
    };
    let refused = |name: &str, reason: &str| Err(at.field(name).refuse(reason));
    match filter.filter_specifier {
        Some(FilterSpecifier::StatusCodeFilter(filter)) => {
            let at = &at.field("status_code_filter");
            Ok(Filter::Status(comparison(filter.comparison, at)?))
        }
        Some(FilterSpecifier::DurationFilter(filter)) => {
            let at = &at.field("duration_filter");
            Ok(Filter::Duration(comparison(filter.comparison, at)?))
        }
        Some(FilterSpecifier::NotHealthCheckFilter(_)) => Ok(Filter::NotHealthCheck),
        Some(FilterSpecifier::TraceableFilter(_)) => Ok(Filter::Traceable),
        Some(FilterSpecifier::RuntimeFilter(filter)) => {
            let at = &at.field("runtime_filter");
            let at = &at.field("percent_sampled");
            Ok(Filter::Share(millionths(filter.percent_sampled, at)?))
        }
        Some(FilterSpecifier::AndFilter(filter)) => Ok(Filter::And(all(
            filter.filters,
            &at.field("and_filter").field("filters"),
        )?)),
        Some(FilterSpecifier::OrFilter(filter)) => Ok(Filter::Or(all(
            filter.filters,
            &at.field("or_filter").field("filters"),
        )?)),
        Some(FilterSpecifier::HeaderFilter(filter)) => {
            let at = &at.field("header_filter");
            let at = &at.field("header");
            let condition = filter.header.ok_or_else(|| at.refuse("it must be given"))?;
            Ok(Filter::Header(matcher::header(condition, at)?))
        }
        Some(FilterSpecifier::ResponseFlagFilter(filter)) => {
            flags(&filter.flags, &at.field("response_flag_filter"))
        }
        Some(FilterSpecifier::GrpcStatusFilter(filter)) => {
            let statuses = filter.statuses.iter().map(|status| u32::try_from(*status));
            let statuses = statuses.collect::<Result<_, _>>().map_err(|_| {
                let at = at.field("grpc_status_filter");
                at.field("statuses").refuse("a status must not be negative")
            })?;
            Ok(Filter::Grpc {
                statuses,
                exclude: filter.exclude,
            })
        }
        Some(FilterSpecifier::ExtensionFilter(filter)) => {
            expression(filter, &at.field("extension_filter"))
        }
        Some(FilterSpecifier::MetadataFilter(_)) => refused("metadata_filter", "is not supported"),
        Some(FilterSpecifier::LogTypeFilter(_)) => refused("log_type_filter", "is not supported"),
        None => Err(at.refuse("its kind must be given")),
    }
}

fn expression(filter: pb::ExtensionFilter, at: &At<'_>) -> Result<Filter, Refused> {
    let Some(extension_filter::ConfigType::TypedConfig(config)) = filter.config_type else {
        return Err(at.field("typed_config").refuse("it must be given"));
    };
    if config.type_url != ExpressionFilter::type_url() {
        return Err(at.refuse(format!("filter {:?} is not supported", filter.name)));
    }
    let at = &at.field("typed_config");
    // What `cel_config` allows is allowed anyway.
    let config: ExpressionFilter = decode(&config, at)?;
    let at = at.field("expression");
    let expression = Expression::condition(&config.expression);
    let expression =
        expression.map_err(|refused| at.refuse(format!("`{}`: {refused}", config.expression)))?;
    Ok(Filter::Expression(expression))
}

/// There is no runtime: its default counts.
fn comparison(given: Option<pb::ComparisonFilter>, at: &At<'_>) -> Result<Comparison, Refused> {
    let at = &at.field("comparison");
    let given = given.ok_or_else(|| at.refuse("it must be given"))?;
    let op = match comparison_filter::Op::try_from(given.op) {
        Ok(comparison_filter::Op::Eq) => Op::Equal,
        Ok(comparison_filter::Op::Ge) => Op::AtLeast,
        Ok(comparison_filter::Op::Le) => Op::AtMost,
        Ok(comparison_filter::Op::Ne) => Op::NotEqual,
        Err(_) => return Err(at.field("op").refuse("is not known")),
    };
    let value = given.value.unwrap_or_default().default_value;
    Ok(Comparison {
        op,
        value: value.into(),
    })
}

fn millionths(given: Option<FractionalPercent>, at: &At<'_>) -> Result<u32, Refused> {
    let given = given.unwrap_or_default();
    let unit = fraction::unit(&given, at)?;
    Ok(given.numerator.saturating_mul(unit))
}

/// Flags that Envoy knows and that are never set here never match.
fn flags(names: &[String], at: &At<'_>) -> Result<Filter, Refused> {
    if let Some(unknown) = names.iter().find(|name| !is_known_flag(name)) {
        let reason = format!("{unknown:?} is no response flag");
        return Err(at.field("flags").refuse(reason));
    }
    let flags: Vec<_> = names.iter().filter_map(|name| Flag::of(name)).collect();
    Ok(match (names, &*flags) {
        ([_, ..], []) => Filter::Or(Vec::new()),
        _ => Filter::Flags(flags),
    })
}
