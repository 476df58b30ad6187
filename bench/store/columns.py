"""DuckDB and Parquet: columns made for spans by hand, as nobody's product has them, so that the two are
at their best.

DuckDB's own tables keep attributes as maps. Parquet has a column for each attribute, is sorted by
trace, and is queried by DuckDB. Measured is: rows that lie in memory as Arrow into the engine.
"""

import glob
import os
import shutil

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from measure import Stager, ask, give, note, peak_anonymous_kib, read_job, rows_of, timed

HEX_TRACE = "lower(hex(trace_id))"
ROW_GROUP = 65_536

# The columns that both have. A resource's attributes are few and kept once, which favours them.
BASE = f"""service, name, kind, status, status_message, resource, scope_name, scope_version, trace_state,
    flags, span_id, parent_span_id, start, duration,
    arrayMap(e -> e.1, events) AS event_times, arrayMap(e -> e.2, events) AS event_names,
    arrayMap(e -> toJSONString(e.3), events) AS event_attributes, toJSONString(links) AS links"""


def main():
    job = read_job()
    engine = {"duckdb": DuckDb, "parquet": Parquet}[job["engine"]](job)
    stager = Stager()
    staged = os.path.join(job["directory"], "staged.arrow")
    wall = cpu = 0.0
    peak = 0
    for chunk in job["chunks"]:
        stager.run(
            f"INSERT INTO FUNCTION file('{staged}', Arrow) SELECT {engine.select()} FROM {rows_of(job, chunk)} "
            "SETTINGS output_format_arrow_compression_method = 'none', output_format_arrow_string_as_string = 1"
        )
        with pa.memory_map(staged) as file:
            table = pa.ipc.open_file(file).read_all()
            w, c, _ = timed(lambda: engine.insert(table))
            del table
        wall, cpu = wall + w, cpu + c
        peak = max(peak, peak_anonymous_kib())
        os.unlink(staged)
        note(f"    {os.path.basename(chunk)}: {c:.1f} s CPU")
    compact_wall, compact_cpu, _ = timed(engine.compact)
    engine.open(stager, staged)
    stager.close()
    [spans] = engine.connection.execute("SELECT count(*) FROM spans").fetchone()
    assert spans == job["spans"], f"{spans} spans instead of {job['spans']}"
    give(
        {
            "title": engine.title,
            "version": engine.version,
            "insert_cpu_s": cpu,
            "insert_wall_s": wall,
            "compact_cpu_s": compact_cpu,
            "compact_wall_s": compact_wall,
            "disk_bytes": engine.disk_bytes(),
            "note": engine.note,
            "peak_kib": peak,
            "answers": ask(job, engine.sqls(), engine.rows),
        }
    )


class Engine:
    def __init__(self, job):
        self.job = job
        self.directory = os.path.join(job["directory"], job["engine"])
        shutil.rmtree(self.directory, ignore_errors=True)
        os.makedirs(self.directory)

    def rows(self, sql):
        return len(self.connection.execute(sql).fetchall())

    def sqls(self):
        trace = f"SELECT * FROM spans WHERE trace_id = {self.trace()}"
        value = f"SELECT DISTINCT trace_id FROM spans WHERE {self.attribute()} LIMIT 20"
        return {
            "trace by id": trace,
            "absent id": trace,
            "newest 20 of a service": "SELECT trace_id, max(start) AS t FROM spans WHERE service = '{service}' "
            "GROUP BY trace_id ORDER BY t DESC LIMIT 20",
            "rare value": value,
            "absent value": value,
            "services": "SELECT DISTINCT service FROM spans",
            "operations": "SELECT DISTINCT name, kind FROM spans WHERE service = '{service}'",
            "dependency graph": "SELECT p.service, c.service, count(*), count(*) FILTER (c.status = 2) FROM spans c JOIN spans p "
            "ON c.trace_id = p.trace_id AND c.parent_span_id = p.span_id "
            "WHERE c.start >= {start} AND c.start < {end} AND p.service != c.service GROUP BY 1, 2",
            "RED by the minute": "SELECT service, name, start // 60000000000 AS t, count(*), count(*) FILTER (status = 2), "
            "approx_quantile(duration, [0.5, 0.95, 0.99]) FROM spans WHERE start >= {start} AND start < {end} GROUP BY 1, 2, 3",
            "RED of the hour": "SELECT service, name, count(*), count(*) FILTER (status = 2), "
            "approx_quantile(duration, [0.5, 0.95, 0.99]) FROM spans WHERE start >= {start} AND start < {end} GROUP BY 1, 2",
            "scan of 3 predicates": "SELECT trace_id FROM spans WHERE service = '{service}' AND status = 2 "
            "AND duration >= {duration} LIMIT 20",
        }


class DuckDb(Engine):
    title = "DuckDB, its own tables"
    version = duckdb.__version__
    note = "no index"

    def __init__(self, job):
        super().__init__(job)
        self.path = os.path.join(self.directory, "spans.duckdb")
        self.connection = duckdb.connect(self.path)
        self.connection.execute("SET threads = 2")
        self.made = False

    def select(self):
        # A UUID of DuckDB's takes 16 bytes; the rows' order is that of arrival.
        trace = "concat(substring(h, 1, 8), '-', substring(h, 9, 4), '-', substring(h, 13, 4), '-', substring(h, 17, 4), '-', substring(h, 21))"
        return f"{trace.replace('h,', HEX_TRACE + ',')} AS trace_id, {BASE}, a_str, a_int, a_dbl, a_bool"

    def insert(self, table):
        select = "SELECT trace_id::UUID AS trace_id, * EXCLUDE trace_id FROM arrived"
        self.connection.register("arrived", table)
        if not self.made:
            self.connection.execute(f"CREATE TABLE spans AS {select} LIMIT 0")
            self.made = True
        self.connection.execute(f"INSERT INTO spans {select}")
        self.connection.unregister("arrived")

    def compact(self):
        self.connection.execute("CHECKPOINT")

    def open(self, stager, staged):
        pass

    def disk_bytes(self):
        [size] = self.connection.execute(
            "SELECT used_blocks * block_size FROM pragma_database_size()"
        ).fetchone()
        return size

    def trace(self):
        return "'{trace}'::UUID"

    def attribute(self):
        return "a_str['{key}'] = '{value}'"


class Parquet(Engine):
    title = "Parquet, a column for each attribute"
    version = f"{pa.__version__}, read by DuckDB {duckdb.__version__}"
    note = "zstd-1, sorted by trace"

    def __init__(self, job):
        super().__init__(job)
        self.files = 0

    def select(self):
        columns = ["trace_id", BASE]
        for kind, keys in self.job["attribute_keys"].items():
            for key in keys:
                columns.append(f"if(mapContains({kind}, '{key}'), {kind}['{key}'], NULL) AS `{kind}.{key}`")
        return ", ".join(columns)

    def insert(self, table):
        table = table.combine_chunks()
        table = table.sort_by([("trace_id", "ascending"), ("start", "ascending")])
        path = os.path.join(self.directory, f"{self.files:04}.parquet")
        pq.write_table(
            table,
            path,
            compression="zstd",
            compression_level=1,
            row_group_size=ROW_GROUP,
            write_page_index=True,
            use_dictionary=[c for c in table.column_names if c not in ("trace_id", "span_id", "parent_span_id", "start", "duration")],
            column_encoding={"start": "DELTA_BINARY_PACKED", "duration": "DELTA_BINARY_PACKED"},
        )
        self.files += 1

    def compact(self):
        pass

    def open(self, stager, staged):
        self.connection = duckdb.connect()
        self.connection.execute("SET threads = 2")
        self.connection.execute("SET enable_object_cache = true")
        pattern = os.path.join(self.directory, "*.parquet")
        self.connection.execute(f"CREATE VIEW spans AS SELECT * FROM read_parquet('{pattern}')")

    def disk_bytes(self):
        return sum(os.path.getsize(path) for path in glob.glob(os.path.join(self.directory, "*")))

    def trace(self):
        return "unhex('{trace}')"

    def attribute(self):
        return "\"a_str.{key}\" = '{value}'"


if __name__ == "__main__":
    main()
