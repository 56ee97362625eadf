/** node examples/typescript/connect.ts [TOPIC] : the same over HTTP with the Connect client, which needs no adapter. */
import { createClient } from '@connectrpc/connect';
import { createConnectTransport } from '@connectrpc/connect-node';
import { BrokerService } from '../../gen/millrace/v1/broker_pb.js';

const [topic = 'orders'] = process.argv.slice(2);
const baseUrl = process.env['MILLRACE_URL'] ?? 'http://127.0.0.1:8080';
const broker = createClient(BrokerService, createConnectTransport({ baseUrl, httpVersion: '1.1' }));

await broker.publish({ topic, records: [{ key: 'k1', value: Buffer.from('hello') }] });

for await (const { event, generation } of broker.subscribe({
  group: 'connect-example',
  topics: [topic],
  start: { position: { case: 'earliest', value: {} } },
  clientId: 'connect-example',
})) {
  if (event.case === 'joined') console.log(`joined as ${event.value.memberId} in generation ${generation}`);
  if (event.case !== 'batch') continue;
  for (const { offset, record } of event.value.records)
    console.log(`${offset}: ${Buffer.from(record!.value).toString()}`);
  break;
}
