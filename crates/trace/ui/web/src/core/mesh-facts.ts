/** What a proxy's attributes say, in words. The names are those of Envoy's spans. */

export interface MeshFact {
  label: string;
  text: string;
  tone: 'plain' | 'bad' | 'notable';
}

/** Envoy's response flags. */
const FLAGS: Readonly<Record<string, string>> = {
  DC: 'the client closed the connection',
  DF: 'the name could not be resolved',
  DI: 'a fault rule delayed it',
  DO: 'dropped under overload',
  DPE: 'the client broke the HTTP protocol',
  DR: 'the client reset the stream',
  DT: 'the connection lasted too long',
  FI: 'a fault rule aborted it',
  IH: 'a header for the proxy was invalid',
  LH: 'the local service failed its health check',
  LR: 'the connection was reset here',
  NC: 'the route points to an unknown cluster',
  NFCF: 'the configuration of a filter is missing',
  NR: 'no route matched',
  OM: 'stopped by the overload manager',
  RFCF: 'answered from a cache',
  RL: 'rate limited',
  RLSE: 'the rate limit service failed',
  SI: 'the stream was idle for too long',
  UAEX: 'external authorization denied it',
  UC: 'the upstream closed the connection',
  UDO: 'dropped by policy',
  UF: 'the connection to the upstream failed',
  UH: 'no healthy upstream',
  UMSDR: 'the stream lasted too long',
  UO: 'the circuit breaker was full',
  UPE: 'the upstream broke the HTTP protocol',
  UR: 'the upstream reset the stream',
  URX: 'all attempts were used up',
  UT: 'the upstream took too long',
};

/** `UO` → `UO: the circuit breaker was full`. */
export function spellFlags(flags: string): string {
  return flags
    .split(',')
    .map((flag) => (FLAGS[flag] ? `${flag}: ${FLAGS[flag]}` : flag))
    .join('; ');
}

/** `outbound|9080|v1|reviews.default.svc.cluster.local` → `reviews.default:9080, subset v1`. */
export function clusterName(cluster: string): string {
  const [direction, port, subset, host = ''] = cluster.replace(/;$/, '').split('|');
  if (direction !== 'outbound' && direction !== 'inbound') return cluster;
  if (direction === 'inbound') return `this workload, port ${port}`;
  return `${host.replace('.svc.cluster.local', '')}:${port}${subset ? `, subset ${subset}` : ''}`;
}

/** Nothing for a span that no proxy made. */
export function meshFacts(attributes: ReadonlyMap<string, string>): MeshFact[] {
  if (attributes.get('component') !== 'proxy') return [];
  const facts: MeshFact[] = [];
  const add = (label: string, text: string | undefined, tone: MeshFact['tone'] = 'plain'): void => {
    if (text !== undefined && text !== '' && text !== '-') facts.push({ label, text, tone });
  };
  const status = attributes.get('http.status_code');
  const flags = attributes.get('response_flags');
  add('request', [attributes.get('http.method'), attributes.get('http.url')].filter(Boolean).join(' '));
  add('answer', status === '0' ? 'none' : status, status === '0' || Number(status) >= 500 ? 'bad' : 'plain');
  if (flags && flags !== '-') add('flags', spellFlags(flags), 'bad');
  const cluster = attributes.get('upstream_cluster');
  add('sent to', cluster === undefined ? undefined : clusterName(cluster));
  add('endpoint', attributes.get('upstream_address'));
  add('peer', attributes.get('upstream_address') === undefined ? attributes.get('peer.address') : undefined);
  const retries = attributes.get('retry.count');
  add('retry', retries === undefined ? undefined : `attempt ${Number(retries) + 1}`, 'notable');
  add('reason', attributes.get('error.reason'), 'bad');
  if (attributes.get('canceled') === 'true') add('canceled', 'by the proxy', 'notable');
  add('request id', attributes.get('guid:x-request-id'));
  return facts;
}
