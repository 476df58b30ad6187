/**
 * How slow this machine is at the moment, so that limits in CPU time mean the same everywhere: the CPU time of a fixed
 * piece of work (JSON, objects, sorting: what the page does) against what it took on the machine that the limits were
 * made for. That number is an estimate: nobody measured it there, so what passes only by this factor proves nothing
 * about the limit itself. Never less than 1, so that a fast machine does not get a smaller limit, and at most 3.
 */

const REFERENCE_MS = 40;
const MOST = 3;

function work(): number {
  const begin = process.cpuUsage();
  const rows = Array.from({ length: 40_000 }, (_, index) => ({ id: `${(index * 2654435761) % 4294967296}`, at: index % 977, name: 'operation' }));
  const again = JSON.parse(JSON.stringify(rows)) as typeof rows;
  again.sort((a, b) => a.at - b.at || (a.id < b.id ? -1 : 1));
  const { user, system } = process.cpuUsage(begin);
  return (user + system) / 1000;
}

export function slowness(): number {
  const times = Array.from({ length: 7 }, work).sort((a, b) => a - b);
  return Math.min(MOST, Math.max(1, (times[3] ?? REFERENCE_MS) / REFERENCE_MS));
}
