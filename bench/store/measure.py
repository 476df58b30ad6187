"""What every driver does: jobs in, results out, CPU time, quantiles."""

import json
import math
import os
import subprocess
import sys
import time


def read_job():
    with open(sys.argv[1]) as file:
        return json.load(file)


def give(result):
    """The last line of the output is the result."""
    print(json.dumps(result), flush=True)


def note(text):
    print(text, file=sys.stderr, flush=True)


def timed(run):
    """Wall and CPU seconds of the whole process, threads that have ended included."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = run()
    return time.perf_counter() - wall, time.process_time() - cpu, result


class Stager:
    """Turns rows into an engine's own input, in a process of its own so that it is not measured."""

    def __init__(self):
        here = os.path.dirname(os.path.abspath(__file__))
        self.process = subprocess.Popen(
            [sys.executable, os.path.join(here, "stage.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, sql):
        self.process.stdin.write(json.dumps(sql) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        if answer:
            raise RuntimeError(answer)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def rows_of(job, chunk):
    """A subquery: the rows of a chunk with the attributes of their resource."""
    rows = f"file('{chunk}', RowBinary, '{job['row_structure']}')"
    resources = f"file('{job['resources']}', RowBinary, '{job['resource_structure']}')"
    return f"(SELECT * FROM {rows} AS s JOIN {resources} AS r ON s.resource = r.id)"


def ask(job, sqls, query):
    """Asks every question several times with different arguments; `query` gives the rows of one."""
    answers = {}
    for question in job["questions"]:
        name = question["name"]
        if name not in sqls:
            continue
        try:
            answers[name] = ask_one(job, question, sqls[name], query)
            note(f"    {name}: {answers[name]['p50_ms']:.2f} ms")
        except Exception as error:
            answers[name] = {"failed": str(error)}
            note(f"    {name}: {error}")
    return answers


def ask_one(job, question, template, query):
    name, cases = question["name"], question["cases"]
    walls, cpus, wrong = [], [], 0
    # Once without being counted, so that what can be in memory is.
    query(fill(template, cases[0]["arguments"]))
    begin = time.perf_counter()
    while len(walls) < job["repetitions"]:
        case = cases[len(walls) % len(cases)]
        wall, cpu, rows = timed(lambda: query(fill(template, case["arguments"])))
        walls.append(wall)
        cpus.append(cpu)
        if case["rows"] is not None and rows != case["rows"]:
            wrong += 1
            if wrong == 1:
                note(f"    {name}: {rows} rows instead of {case['rows']}")
        if time.perf_counter() - begin > job["seconds_per_question"]:
            break
    return {
        "repetitions": len(walls),
        "p50_ms": quantile(walls, 0.5) * 1e3,
        "p99_ms": quantile(walls, 0.99) * 1e3,
        "cpu_ms": sum(cpus) / len(cpus) * 1e3,
        "wrong": wrong,
    }


def fill(template, arguments):
    for name, value in arguments.items():
        template = template.replace("{" + name + "}", str(value))
    return template


def quantile(values, q):
    values = sorted(values)
    return values[max(0, math.ceil(q * len(values)) - 1)]


def peak_anonymous_kib():
    """Memory that is the process's own now, without files that are mapped."""
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith("RssAnon:"):
                return int(line.split()[1])
    return 0
