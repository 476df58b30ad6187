"""The tables of three projects that keep spans in ClickHouse, as their newest releases of 2026 make
them: columns, codecs, skip indexes and views; without clusters and times to live.

Each has the DDL, what makes its columns out of the rows (before the measurement), and its SQL for the
questions.
"""

HEX_TRACE = "lower(hex(trace_id))"
HEX_SPAN = "lower(leftPad(hex(span_id), 16, '0'))"
HEX_PARENT = "if(parent_span_id = 0, '', lower(leftPad(hex(parent_span_id), 16, '0')))"
TIME = "fromUnixTimestamp64Nano(toInt64(start))"
KIND = "arrayElement(['', 'internal', 'server', 'client', 'producer', 'consumer'], kind + 1)"
STATUS = "arrayElement(['Unset', 'Ok', 'Error'], status + 1)"


class Schema:
    def __init__(self, title, ddl, columns, tables, sqls):
        self.title = title
        self.ddl = ddl
        # By name, what makes it.
        self.columns = columns
        # The first one takes the rows.
        self.tables = tables
        self.sqls = sqls

    def select(self):
        return ", ".join(f"{made} AS c{i}" for i, made in enumerate(self.columns.values()))


def nested(prefix, types=("bool", "double", "int", "str", "complex")):
    return ", ".join(
        f"{prefix}{kind}_attributes Nested(key String, value {VALUES[kind]})" for kind in types
    )


VALUES = {"bool": "Bool", "double": "Float64", "int": "Int64", "str": "String", "complex": "String"}


def pairs(prefix, maps):
    """The two columns of each of Jaeger's five lists; those that are in no map are empty."""
    columns = {}
    for kind, value in VALUES.items():
        name = f"{prefix}{kind}_attributes"
        column = maps.get(kind)
        columns[f"{name}.key"] = f"mapKeys({column})" if column else "emptyArrayString()"
        columns[f"{name}.value"] = f"mapValues({column})" if column else f"CAST([], 'Array({value})')"
    return columns


def lists(of, texts):
    """The attributes of events or links; all of the workloads' are texts."""
    columns = {}
    for kind, value in VALUES.items():
        source = texts if kind == "str" else "[]"
        cast = f"CAST({source}, 'Array(Tuple(key String, value {value}))')"
        columns[f"{of}.{kind}_attributes"] = f"arrayMap(e -> {cast}, {of})"
    return columns


JAEGER = Schema(
    "ClickHouse, Jaeger's schema",
    [
        f"""CREATE TABLE spans (
            id String, trace_id String, trace_state String, parent_span_id String, name String,
            kind String, start_time DateTime64(9), status_code String, status_message String,
            duration Int64, {nested("")},
            events Nested(name String, timestamp DateTime64(9), {nested("")}),
            links Nested(trace_id String, span_id String, trace_state String, {nested("")}),
            service_name String, {nested("resource_")}, scope_name String, scope_version String,
            {nested("scope_")},
            INDEX idx_trace_id trace_id TYPE bloom_filter GRANULARITY 1,
            INDEX idx_duration duration TYPE minmax GRANULARITY 1
        ) ENGINE = MergeTree PARTITION BY toDate(start_time)
        ORDER BY (service_name, name, toDateTime(start_time))""",
        "CREATE TABLE services (name String) ENGINE = AggregatingMergeTree ORDER BY name",
        "CREATE MATERIALIZED VIEW services_mv TO services AS "
        "SELECT service_name AS name FROM spans GROUP BY service_name",
        "CREATE TABLE operations (service_name String, name String, span_kind String) "
        "ENGINE = AggregatingMergeTree ORDER BY (service_name, span_kind)",
        "CREATE MATERIALIZED VIEW operations_mv TO operations AS "
        "SELECT service_name, name, kind AS span_kind FROM spans",
        """CREATE TABLE trace_id_timestamps (trace_id String,
            start SimpleAggregateFunction(min, DateTime64(9)),
            end SimpleAggregateFunction(max, DateTime64(9))
        ) ENGINE = AggregatingMergeTree ORDER BY trace_id""",
        "CREATE MATERIALIZED VIEW trace_id_timestamps_mv TO trace_id_timestamps AS "
        "SELECT trace_id, min(start_time) AS start, max(start_time) AS end FROM spans GROUP BY trace_id",
        "CREATE TABLE attribute_metadata (attribute_key String, type String, level String) "
        "ENGINE = AggregatingMergeTree ORDER BY (attribute_key, type, level)",
        """CREATE MATERIALIZED VIEW attribute_metadata_mv TO attribute_metadata AS
        SELECT t.1 AS attribute_key, t.2 AS type, t.3 AS level FROM (
            SELECT arrayJoin(arrayConcat(
                arrayMap(k -> (k, 'bool', 'span'), bool_attributes.key),
                arrayMap(k -> (k, 'double', 'span'), double_attributes.key),
                arrayMap(k -> (k, 'int', 'span'), int_attributes.key),
                arrayMap(k -> (k, 'str', 'span'), str_attributes.key),
                arrayMap(k -> (k, 'int', 'resource'), resource_int_attributes.key),
                arrayMap(k -> (k, 'str', 'resource'), resource_str_attributes.key))) AS t
            FROM spans) GROUP BY attribute_key, type, level""",
    ],
    {
        "id": HEX_SPAN,
        "trace_id": HEX_TRACE,
        "trace_state": "trace_state",
        "parent_span_id": HEX_PARENT,
        "name": "name",
        "kind": KIND,
        "start_time": TIME,
        "status_code": STATUS,
        "status_message": "status_message",
        "duration": "toInt64(duration)",
        **pairs("", {"bool": "a_bool", "double": "a_dbl", "int": "a_int", "str": "a_str"}),
        "events.name": "arrayMap(e -> e.2, events)",
        "events.timestamp": "arrayMap(e -> fromUnixTimestamp64Nano(toInt64(e.1)), events)",
        **lists("events", "e.3"),
        "links.trace_id": "arrayMap(l -> lower(hex(l.1)), links)",
        "links.span_id": "arrayMap(l -> lower(hex(l.2)), links)",
        "links.trace_state": "arrayMap(l -> l.3, links)",
        **lists("links", "e.4"),
        "service_name": "service",
        **pairs("resource_", {"int": "r_int", "str": "r_str"}),
        "scope_name": "scope_name",
        "scope_version": "scope_version",
        **pairs("scope_", {}),
    },
    ["spans", "services", "operations", "trace_id_timestamps", "attribute_metadata"],
    {
        "trace by id": "SELECT * FROM spans WHERE trace_id = '{trace}'",
        "absent id": "SELECT * FROM spans WHERE trace_id = '{trace}'",
        "newest 20 of a service": "SELECT trace_id, max(start_time) AS t FROM spans WHERE service_name = '{service}' "
        "GROUP BY trace_id ORDER BY t DESC LIMIT 20",
        "rare value": "SELECT DISTINCT trace_id FROM spans WHERE arrayExists((k, v) -> k = '{key}' AND v = '{value}', "
        "str_attributes.key, str_attributes.value) LIMIT 20",
        "absent value": "SELECT DISTINCT trace_id FROM spans WHERE arrayExists((k, v) -> k = '{key}' AND v = '{value}', "
        "str_attributes.key, str_attributes.value) LIMIT 20",
        "services": "SELECT name FROM services GROUP BY name",
        "operations": "SELECT name, span_kind FROM operations WHERE service_name = '{service}' GROUP BY name, span_kind",
        "dependency graph": "SELECT p.service_name, c.service_name, count(), countIf(c.status_code = 'Error') "
        "FROM spans AS c JOIN spans AS p ON c.trace_id = p.trace_id AND c.parent_span_id = p.id "
        "WHERE c.start_time >= fromUnixTimestamp64Nano({start}) AND c.start_time < fromUnixTimestamp64Nano({end}) "
        "AND p.service_name != c.service_name GROUP BY 1, 2",
        "RED by the minute": "SELECT service_name, name, toStartOfMinute(start_time) AS t, count(), countIf(status_code = 'Error'), "
        "quantilesTDigest(0.5, 0.95, 0.99)(duration) FROM spans "
        "WHERE start_time >= fromUnixTimestamp64Nano({start}) AND start_time < fromUnixTimestamp64Nano({end}) "
        "GROUP BY service_name, name, t",
        "RED of the hour": "SELECT service_name, name, count(), countIf(status_code = 'Error'), "
        "quantilesTDigest(0.5, 0.95, 0.99)(duration) FROM spans "
        "WHERE start_time >= fromUnixTimestamp64Nano({start}) AND start_time < fromUnixTimestamp64Nano({end}) "
        "GROUP BY service_name, name",
        "scan of 3 predicates": "SELECT trace_id FROM spans WHERE service_name = '{service}' AND status_code = 'Error' "
        "AND duration >= {duration} LIMIT 20",
    },
)

ALL_ATTRIBUTES = """CAST(arrayConcat(CAST(a_str, 'Array(Tuple(String, String))'),
    arrayMap(x -> (x.1, toString(x.2)), CAST(a_int, 'Array(Tuple(String, Int64))')),
    arrayMap(x -> (x.1, toString(x.2)), CAST(a_dbl, 'Array(Tuple(String, Float64))')),
    arrayMap(x -> (x.1, toString(x.2)), CAST(a_bool, 'Array(Tuple(String, Bool))'))),
    'Map(LowCardinality(String), String)')"""
ALL_OF_RESOURCE = """CAST(arrayConcat(CAST(r_str, 'Array(Tuple(String, String))'),
    arrayMap(x -> (x.1, toString(x.2)), CAST(r_int, 'Array(Tuple(String, Int64))'))),
    'Map(LowCardinality(String), String)')"""


def low(expression):
    return f"toLowCardinality({expression})"


OTEL = Schema(
    "ClickHouse, the OTel exporter's schema",
    [
        """CREATE TABLE spans (
            Timestamp DateTime64(9) CODEC(Delta(8), ZSTD(1)), TraceId String CODEC(ZSTD(1)),
            SpanId String CODEC(ZSTD(1)), ParentSpanId String CODEC(ZSTD(1)),
            TraceState String CODEC(ZSTD(1)), SpanName LowCardinality(String) CODEC(ZSTD(1)),
            SpanKind LowCardinality(String) CODEC(ZSTD(1)),
            ServiceName LowCardinality(String) CODEC(ZSTD(1)),
            ResourceAttributes Map(LowCardinality(String), String) CODEC(ZSTD(1)),
            ScopeName String CODEC(ZSTD(1)), ScopeVersion String CODEC(ZSTD(1)),
            SpanAttributes Map(LowCardinality(String), String) CODEC(ZSTD(1)),
            Duration UInt64 CODEC(T64, ZSTD(1)), StatusCode LowCardinality(String) CODEC(ZSTD(1)),
            StatusMessage String CODEC(ZSTD(1)),
            Events Nested(Timestamp DateTime64(9), Name LowCardinality(String),
                Attributes Map(LowCardinality(String), String)) CODEC(ZSTD(1)),
            Links Nested(TraceId String, SpanId String, TraceState String,
                Attributes Map(LowCardinality(String), String)) CODEC(ZSTD(1)),
            INDEX i_trace TraceId TYPE bloom_filter(0.001) GRANULARITY 1,
            INDEX i_res_key mapKeys(ResourceAttributes) TYPE bloom_filter(0.01) GRANULARITY 1,
            INDEX i_res_value mapValues(ResourceAttributes) TYPE bloom_filter(0.01) GRANULARITY 1,
            INDEX i_key mapKeys(SpanAttributes) TYPE bloom_filter(0.01) GRANULARITY 1,
            INDEX i_value mapValues(SpanAttributes) TYPE bloom_filter(0.01) GRANULARITY 1,
            INDEX i_duration Duration TYPE minmax GRANULARITY 1,
            INDEX i_name lower(SpanName) TYPE tokenbf_v1(32768, 3, 0) GRANULARITY 8
        ) ENGINE = MergeTree PARTITION BY toDate(Timestamp)
        PRIMARY KEY (ServiceName, SpanName, toDateTime(Timestamp))
        ORDER BY (ServiceName, SpanName, toDateTime(Timestamp), Timestamp)
        SETTINGS index_granularity = 8192, ttl_only_drop_parts = 1""",
        """CREATE TABLE spans_trace_id_ts (TraceId String CODEC(ZSTD(1)), Start DateTime CODEC(Delta, ZSTD(1)),
            End DateTime CODEC(Delta, ZSTD(1)), INDEX i_trace TraceId TYPE bloom_filter(0.01) GRANULARITY 1
        ) ENGINE = MergeTree PARTITION BY toDate(Start) ORDER BY (TraceId, Start)""",
        "CREATE MATERIALIZED VIEW spans_trace_id_ts_mv TO spans_trace_id_ts AS "
        "SELECT TraceId, min(Timestamp) AS Start, max(Timestamp) AS End FROM spans WHERE TraceId != '' GROUP BY TraceId",
    ],
    {
        "Timestamp": TIME,
        "TraceId": HEX_TRACE,
        "SpanId": HEX_SPAN,
        "ParentSpanId": HEX_PARENT,
        "TraceState": "trace_state",
        "SpanName": low("name"),
        "SpanKind": low(KIND),
        "ServiceName": low("service"),
        "ResourceAttributes": ALL_OF_RESOURCE,
        "ScopeName": "scope_name",
        "ScopeVersion": "scope_version",
        "SpanAttributes": ALL_ATTRIBUTES,
        "Duration": "duration",
        "StatusCode": low(STATUS),
        "StatusMessage": "status_message",
        "Events.Timestamp": "arrayMap(e -> fromUnixTimestamp64Nano(toInt64(e.1)), events)",
        "Events.Name": "CAST(arrayMap(e -> e.2, events), 'Array(LowCardinality(String))')",
        "Events.Attributes": "CAST(arrayMap(e -> e.3, events), 'Array(Map(LowCardinality(String), String))')",
        "Links.TraceId": "arrayMap(l -> lower(hex(l.1)), links)",
        "Links.SpanId": "arrayMap(l -> lower(hex(l.2)), links)",
        "Links.TraceState": "arrayMap(l -> l.3, links)",
        "Links.Attributes": "CAST(arrayMap(l -> l.4, links), 'Array(Map(LowCardinality(String), String))')",
    },
    ["spans", "spans_trace_id_ts"],
    {
        "trace by id": """WITH '{trace}' AS id,
            (SELECT min(Start) FROM spans_trace_id_ts WHERE TraceId = id) AS a,
            (SELECT max(End) + 1 FROM spans_trace_id_ts WHERE TraceId = id) AS b
        SELECT * FROM spans WHERE TraceId = id AND Timestamp >= a AND Timestamp <= b""",
        "newest 20 of a service": "SELECT TraceId, max(Timestamp) AS t FROM spans WHERE ServiceName = '{service}' "
        "GROUP BY TraceId ORDER BY t DESC LIMIT 20",
        "rare value": "SELECT DISTINCT TraceId FROM spans WHERE SpanAttributes['{key}'] = '{value}' LIMIT 20",
        "services": "SELECT DISTINCT ServiceName FROM spans",
        "operations": "SELECT DISTINCT SpanName, SpanKind FROM spans WHERE ServiceName = '{service}'",
        "dependency graph": "SELECT p.ServiceName, c.ServiceName, count(), countIf(c.StatusCode = 'Error') "
        "FROM spans AS c JOIN spans AS p ON c.TraceId = p.TraceId AND c.ParentSpanId = p.SpanId "
        "WHERE c.Timestamp >= fromUnixTimestamp64Nano({start}) AND c.Timestamp < fromUnixTimestamp64Nano({end}) "
        "AND p.ServiceName != c.ServiceName GROUP BY 1, 2",
        "RED by the minute": "SELECT ServiceName, SpanName, toStartOfMinute(Timestamp) AS t, count(), countIf(StatusCode = 'Error'), "
        "quantilesTDigest(0.5, 0.95, 0.99)(Duration) FROM spans "
        "WHERE Timestamp >= fromUnixTimestamp64Nano({start}) AND Timestamp < fromUnixTimestamp64Nano({end}) "
        "GROUP BY ServiceName, SpanName, t",
        "RED of the hour": "SELECT ServiceName, SpanName, count(), countIf(StatusCode = 'Error'), "
        "quantilesTDigest(0.5, 0.95, 0.99)(Duration) FROM spans "
        "WHERE Timestamp >= fromUnixTimestamp64Nano({start}) AND Timestamp < fromUnixTimestamp64Nano({end}) "
        "GROUP BY ServiceName, SpanName",
        "scan of 3 predicates": "SELECT TraceId FROM spans WHERE ServiceName = '{service}' AND StatusCode = 'Error' "
        "AND Duration >= {duration} LIMIT 20",
    },
)
OTEL.sqls["absent id"] = OTEL.sqls["trace by id"]
OTEL.sqls["absent value"] = OTEL.sqls["rare value"]

PROMOTED = ["http.route", "messaging.system", "messaging.operation", "db.system", "rpc.system", "rpc.service", "rpc.method", "peer.service"]


def promoted():
    columns = ["`resource_string_service$$name` LowCardinality(String) DEFAULT resources_string['service.name'] CODEC(ZSTD(1))"]
    for key in PROMOTED:
        name = "attribute_string_" + key.replace(".", "$$")
        columns.append(f"`{name}` LowCardinality(String) DEFAULT attributes_string['{key}'] CODEC(ZSTD(1))")
        columns.append(f"`{name}_exists` Bool DEFAULT if(mapContains(attributes_string, '{key}') != 0, true, false) CODEC(ZSTD(1))")
    return ", ".join(columns)


LOW_COLUMNS = ["response_status_code", "external_http_url", "http_url", "external_http_method", "http_method", "http_host", "db_name", "db_operation"]
# A span lies by its half hour, then by the fingerprint of its resource. The other columns have defaults.
FINGERPRINT = "concat('k8s.namespace.name=', r_str['k8s.namespace.name'], ';service.name=', service, ';hash=', toString(cityHash64(toString(r_str))))"

SIGNOZ = Schema(
    "ClickHouse, SigNoz's schema",
    [
        f"""CREATE TABLE signoz_index_v3 (
            ts_bucket_start UInt64 CODEC(DoubleDelta, LZ4), resource_fingerprint String CODEC(ZSTD(1)),
            timestamp DateTime64(9) CODEC(DoubleDelta, LZ4), trace_id FixedString(32) CODEC(ZSTD(1)),
            span_id String CODEC(ZSTD(1)), trace_state String CODEC(ZSTD(1)),
            parent_span_id String CODEC(ZSTD(1)), flags UInt32 CODEC(T64, ZSTD(1)),
            name LowCardinality(String) CODEC(ZSTD(1)), kind Int8 CODEC(T64, ZSTD(1)),
            kind_string String CODEC(ZSTD(1)), duration_nano UInt64 CODEC(T64, ZSTD(1)),
            status_code Int16 CODEC(T64, ZSTD(1)), status_message String CODEC(ZSTD(1)),
            status_code_string String CODEC(ZSTD(1)),
            attributes_string Map(LowCardinality(String), String) CODEC(ZSTD(1)),
            attributes_number Map(LowCardinality(String), Float64) CODEC(ZSTD(1)),
            attributes_bool Map(LowCardinality(String), Bool) CODEC(ZSTD(1)),
            resources_string Map(LowCardinality(String), String) CODEC(ZSTD(1)),
            events Array(String) CODEC(ZSTD(2)), links String CODEC(ZSTD(1)),
            {", ".join(f"{name} LowCardinality(String) CODEC(ZSTD(1))" for name in LOW_COLUMNS)},
            has_error Bool CODEC(T64, ZSTD(1)), is_remote LowCardinality(String) CODEC(ZSTD(1)),
            {promoted()},
            INDEX i_trace trace_id TYPE tokenbf_v1(10000, 5, 0) GRANULARITY 1,
            INDEX i_span span_id TYPE tokenbf_v1(5000, 5, 0) GRANULARITY 1,
            INDEX i_duration duration_nano TYPE minmax GRANULARITY 1,
            INDEX i_name name TYPE ngrambf_v1(4, 5000, 2, 0) GRANULARITY 1,
            INDEX i_kind kind TYPE minmax GRANULARITY 4,
            INDEX i_route `attribute_string_http$$route` TYPE bloom_filter GRANULARITY 4,
            INDEX i_url http_url TYPE bloom_filter GRANULARITY 4,
            INDEX i_host http_host TYPE bloom_filter GRANULARITY 4,
            INDEX i_method http_method TYPE bloom_filter GRANULARITY 4,
            INDEX i_timestamp timestamp TYPE minmax GRANULARITY 1,
            INDEX i_rpc `attribute_string_rpc$$method` TYPE bloom_filter GRANULARITY 4,
            INDEX i_code response_status_code TYPE set(0) GRANULARITY 1,
            INDEX i_status status_code_string TYPE set(3) GRANULARITY 4,
            INDEX i_kinds kind_string TYPE set(5) GRANULARITY 4,
            INDEX i_s_key mapKeys(attributes_string) TYPE tokenbf_v1(1024, 2, 0) GRANULARITY 1,
            INDEX i_s_val mapValues(attributes_string) TYPE ngrambf_v1(4, 5000, 2, 0) GRANULARITY 1,
            INDEX i_n_key mapKeys(attributes_number) TYPE tokenbf_v1(1024, 2, 0) GRANULARITY 1,
            INDEX i_n_val mapValues(attributes_number) TYPE bloom_filter GRANULARITY 1,
            INDEX i_b_key mapKeys(attributes_bool) TYPE tokenbf_v1(1024, 2, 0) GRANULARITY 1,
            INDEX i_r_key mapKeys(resources_string) TYPE tokenbf_v1(1024, 2, 0) GRANULARITY 1,
            INDEX i_r_val mapValues(resources_string) TYPE ngrambf_v1(4, 5000, 2, 0) GRANULARITY 1
        ) ENGINE = MergeTree PARTITION BY toDate(timestamp)
        ORDER BY (ts_bucket_start, resource_fingerprint, has_error, name, timestamp)
        SETTINGS index_granularity = 8192, ttl_only_drop_parts = 1""",
        """CREATE TABLE trace_summary (trace_id String CODEC(ZSTD(1)),
            start SimpleAggregateFunction(min, DateTime64(9)) CODEC(ZSTD(1)),
            end SimpleAggregateFunction(max, DateTime64(9)) CODEC(ZSTD(1)),
            num_spans SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1))
        ) ENGINE = AggregatingMergeTree PARTITION BY toDate(end) ORDER BY trace_id""",
        "CREATE MATERIALIZED VIEW trace_summary_mv TO trace_summary AS SELECT trace_id, min(timestamp) AS start, "
        "max(timestamp) AS end, toUInt64(count()) AS num_spans FROM signoz_index_v3 GROUP BY trace_id",
        """CREATE TABLE dependency_graph_minutes_v2 (src LowCardinality(String) CODEC(ZSTD(1)),
            dest LowCardinality(String) CODEC(ZSTD(1)),
            duration_quantiles_state AggregateFunction(quantiles(0.5, 0.75, 0.9, 0.95, 0.99), Float64),
            error_count SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
            total_count SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
            timestamp DateTime CODEC(DoubleDelta, LZ4)
        ) ENGINE = AggregatingMergeTree PARTITION BY toDate(timestamp) ORDER BY (timestamp, src, dest)""",
        """CREATE MATERIALIZED VIEW dependency_graph_minutes_mv TO dependency_graph_minutes_v2 AS
        SELECT a.`resource_string_service$$name` AS src, b.`resource_string_service$$name` AS dest,
            quantilesState(0.5, 0.75, 0.9, 0.95, 0.99)(toFloat64(b.duration_nano)) AS duration_quantiles_state,
            countIf(b.status_code = 2) AS error_count, count(*) AS total_count,
            toStartOfMinute(b.timestamp) AS timestamp
        FROM signoz_index_v3 AS a, signoz_index_v3 AS b
        WHERE a.`resource_string_service$$name` != b.`resource_string_service$$name`
            AND a.span_id = b.parent_span_id AND b.span_id != '' AND a.span_id != ''
        GROUP BY timestamp, src, dest""",
    ],
    {
        "ts_bucket_start": "toUInt64(intDiv(start, 1800000000000) * 1800)",
        "resource_fingerprint": FINGERPRINT,
        "timestamp": TIME,
        "trace_id": HEX_TRACE,
        "span_id": HEX_SPAN,
        "trace_state": "trace_state",
        "parent_span_id": HEX_PARENT,
        "flags": "flags",
        "name": low("name"),
        "kind": "toInt8(kind)",
        "kind_string": KIND,
        "duration_nano": "duration",
        "status_code": "toInt16(status)",
        "status_message": "status_message",
        "status_code_string": STATUS,
        "attributes_string": "CAST(a_str, 'Map(LowCardinality(String), String)')",
        "attributes_number": """CAST(arrayConcat(
            arrayMap(x -> (x.1, toFloat64(x.2)), CAST(a_int, 'Array(Tuple(String, Int64))')),
            CAST(a_dbl, 'Array(Tuple(String, Float64))')), 'Map(LowCardinality(String), Float64)')""",
        "attributes_bool": "CAST(a_bool, 'Map(LowCardinality(String), Bool)')",
        "resources_string": ALL_OF_RESOURCE,
        "events": "arrayMap(e -> toJSONString(e), events)",
        "links": "toJSONString(links)",
        "response_status_code": low("toString(a_int['http.response.status_code'])"),
        "external_http_url": low("if(kind = 3, a_str['server.address'], '')"),
        "http_url": low("a_str['url.full']"),
        "external_http_method": low("if(kind = 3, a_str['http.request.method'], '')"),
        "http_method": low("a_str['http.request.method']"),
        "http_host": low("a_str['server.address']"),
        "db_name": low("a_str['db.namespace']"),
        "db_operation": low("a_str['db.operation.name']"),
        "has_error": "CAST(status = 2, 'Bool')",
        "is_remote": low("'unknown'"),
    },
    ["signoz_index_v3", "trace_summary", "dependency_graph_minutes_v2"],
    {
        "trace by id": """WITH (SELECT min(start) FROM trace_summary WHERE trace_id = '{trace}') AS a,
            (SELECT max(end) FROM trace_summary WHERE trace_id = '{trace}') AS b
        SELECT * FROM signoz_index_v3 WHERE trace_id = '{trace}'
            AND ts_bucket_start >= intDiv(toUnixTimestamp(a), 1800) * 1800 AND ts_bucket_start <= toUnixTimestamp(b)""",
        "newest 20 of a service": "SELECT trace_id, max(timestamp) AS t FROM signoz_index_v3 "
        "WHERE `resource_string_service$$name` = '{service}' GROUP BY trace_id ORDER BY t DESC LIMIT 20",
        "rare value": "SELECT DISTINCT trace_id FROM signoz_index_v3 WHERE attributes_string['{key}'] = '{value}' "
        "AND mapContains(attributes_string, '{key}') LIMIT 20",
        "services": "SELECT DISTINCT `resource_string_service$$name` FROM signoz_index_v3",
        "operations": "SELECT DISTINCT name, kind FROM signoz_index_v3 WHERE `resource_string_service$$name` = '{service}'",
        "dependency graph": "SELECT src, dest, sum(total_count), sum(error_count) FROM dependency_graph_minutes_v2 "
        "WHERE timestamp >= toStartOfMinute(fromUnixTimestamp64Nano({start})) AND timestamp < fromUnixTimestamp64Nano({end}) GROUP BY src, dest",
        "RED by the minute": "SELECT `resource_string_service$$name` AS s, name, toStartOfMinute(timestamp) AS t, count(), countIf(has_error), "
        "quantilesTDigest(0.5, 0.95, 0.99)(duration_nano) FROM signoz_index_v3 "
        "WHERE timestamp >= fromUnixTimestamp64Nano({start}) AND timestamp < fromUnixTimestamp64Nano({end}) GROUP BY s, name, t",
        "RED of the hour": "SELECT `resource_string_service$$name` AS s, name, count(), countIf(has_error), "
        "quantilesTDigest(0.5, 0.95, 0.99)(duration_nano) FROM signoz_index_v3 "
        "WHERE timestamp >= fromUnixTimestamp64Nano({start}) AND timestamp < fromUnixTimestamp64Nano({end}) GROUP BY s, name",
        "scan of 3 predicates": "SELECT trace_id FROM signoz_index_v3 WHERE `resource_string_service$$name` = '{service}' "
        "AND has_error AND duration_nano >= {duration} LIMIT 20",
    },
)
SIGNOZ.sqls["absent id"] = SIGNOZ.sqls["trace by id"]
SIGNOZ.sqls["absent value"] = SIGNOZ.sqls["rare value"]

SCHEMAS = {"jaeger": JAEGER, "otel": OTEL, "signoz": SIGNOZ}
