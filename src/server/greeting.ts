import type { Settings } from '../config/settings.ts';

/** The text at the terminal once the broker serves, with the next commands. */
export function greeting(
  settings: Settings,
  ports: { readonly grpc: number; readonly http: number },
  databaseUrl: string | null,
  startMs: number,
): string {
  const host = shownHost(settings.host);
  const grpc = `${host}:${ports.grpc}`;
  const http = `http://${host}:${ports.http}`;
  const curl = (call: string, body: string): string =>
    `  npx @bufbuild/buf curl --protocol grpc --http2-prior-knowledge -d '${body}' \\\n    http://${grpc}/millrace.v1.${call}`;
  return [
    `Millrace serves, ${(startMs / 1000).toFixed(1)} s after its start.`,
    '',
    `  gRPC      ${grpc}`,
    `  HTTP      ${http}  (Connect, gRPC-Web, JSON, /readyz, /metrics)`,
    `  database  ${databaseUrl ?? 'the one of --database-url'}`,
    ...(databaseUrl === null ? [] : [`            an embedded PostgreSQL, its data in ${settings.dataDir}`]),
    '',
    'To try it, in another terminal: make a topic, listen to it, and publish from a third.',
    '',
    curl('TopicService/CreateTopic', '{"topic": {"name": "orders", "partitions": 6}}'),
    '',
    curl(
      'BrokerService/Subscribe',
      '{"group": "billing", "topics": ["orders"], "start": {"earliest": {}}, "autoAck": true}',
    ),
    '',
    curl('BrokerService/Publish', '{"topic": "orders", "records": [{"key": "k1", "value": "aGVsbG8="}]}'),
    '',
    'Ctrl-C stops it; nothing that was confirmed is lost.',
    '',
  ].join('\n');
}

function shownHost(host: string): string {
  if (host === '0.0.0.0' || host === '::') return '127.0.0.1';
  return host.includes(':') ? `[${host}]` : host;
}
