"""ClickHouse in this process (chdb) with the schemas of projects that use it.

Measured is: INSERT from a file in ClickHouse's own Native format (what a server gets from an exporter
is the same, compressed), views included, then one final merge. Not measured is the making of that file.
"""

import os
import shutil

from chdb import session

from clickhouse_schemas import SCHEMAS
from measure import Stager, ask, give, note, peak_anonymous_kib, read_job, rows_of, timed


def main():
    job = read_job()
    schema = SCHEMAS[job["engine"]]
    data = os.path.join(job["directory"], "clickhouse")
    shutil.rmtree(data, ignore_errors=True)
    engine = session.Session(data)
    run = lambda sql, form="TSV": engine.query(sql, form)
    rows = lambda sql: len(run(sql).bytes().splitlines())

    run("CREATE DATABASE bench ENGINE = Atomic", "Null")
    for setting in ["max_threads = 2", "use_structure_from_insertion_table_in_table_functions = 0", "use_query_condition_cache = 0", "max_memory_usage = 8000000000"]:
        run(f"SET {setting}", "Null")
    run("USE bench", "Null")
    for statement in schema.ddl:
        run(statement, "Null")
    # Merges run where they are measured, at the end, once.
    run("SYSTEM STOP MERGES", "Null")

    stager = Stager()
    table = schema.tables[0]
    columns = ", ".join(schema.columns)
    wall = cpu = 0.0
    peak = 0
    staged = os.path.join(job["directory"], "staged.native")
    for chunk in job["chunks"]:
        select = f"SELECT {schema.select()} FROM {rows_of(job, chunk)}"
        stager.run(f"INSERT INTO FUNCTION file('{staged}', Native) {select}")
        insert = (
            f"INSERT INTO {table} ({columns}) SELECT * FROM file('{staged}', Native) "
            "SETTINGS max_insert_block_size = 1048576, min_insert_block_size_rows = 1048576, "
            "min_insert_block_size_bytes = 1073741824, max_insert_threads = 1"
        )
        w, c, _ = timed(lambda: run(insert, "Null"))
        wall, cpu = wall + w, cpu + c
        peak = max(peak, peak_anonymous_kib())
        os.unlink(staged)
        note(f"    {os.path.basename(chunk)}: {c:.1f} s CPU")
    stager.close()

    run("SYSTEM START MERGES", "Null")
    merge = lambda: [run(f"OPTIMIZE TABLE {name} FINAL", "Null") for name in schema.tables]
    merge_wall, merge_cpu, _ = timed(merge)
    names = ", ".join(f"'{name}'" for name in schema.tables)
    parts = run(
        "SELECT sum(bytes_on_disk), sumIf(secondary_indices_compressed_bytes, 1), "
        f"sumIf(rows, table = '{table}') FROM system.parts WHERE active AND database = 'bench' AND table IN ({names})"
    )
    disk, indexes, spans = (int(field) for field in parts.bytes().split())
    assert spans == job["spans"], f"{spans} spans instead of {job['spans']}"
    give(
        {
            "title": schema.title,
            "version": run("SELECT version()").bytes().decode().strip(),
            "insert_cpu_s": cpu,
            "insert_wall_s": wall,
            "compact_cpu_s": merge_cpu,
            "compact_wall_s": merge_wall,
            "disk_bytes": disk,
            "note": f"skip indexes {indexes / spans:.1f} B",
            "peak_kib": peak,
            "answers": ask(job, schema.sqls, rows),
        }
    )
    engine.close()


if __name__ == "__main__":
    main()
