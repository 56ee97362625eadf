/**
 * node examples/typescript/connect.ts [TOPIC] : the same over HTTP with the Connect client, which
 * needs no adapter.
 */
import { Code, ConnectError, createClient } from '@connectrpc/connect';
import { createConnectTransport } from '@connectrpc/connect-node';
import { AckStatus, BrokerService } from '../../gen/millrace/v1/broker_pb.js';
import { TopicService } from '../../gen/millrace/v1/topic_pb.js';

const [topic = 'orders'] = process.argv.slice(2);
const baseUrl = process.env['MILLRACE_URL'] ?? 'http://127.0.0.1:8080';
// HTTP/1.1 has no window that would have to be set, and gives each call a connection of its own.
const transport = createConnectTransport({ baseUrl, httpVersion: '1.1' });
const broker = createClient(BrokerService, transport);
const group = 'connect-example';
let memberId = '';

await createClient(TopicService, transport)
  .createTopic({ topic: { name: topic, partitions: 6 } })
  .catch((error: unknown) => {
    if (ConnectError.from(error).code !== Code.AlreadyExists) throw error;
  });
await broker.publish({ topic, records: [{ key: 'k1', value: Buffer.from('hello') }] });

const stop = new AbortController();
const start = { position: { case: 'earliest', value: {} } } as const;
for await (const { event, generation } of broker.subscribe(
  { group, topics: [topic], start, lanes: true },
  { signal: stop.signal },
)) {
  if (event.case === 'joined') {
    memberId = event.value.memberId;
    console.log(`joined as ${memberId} in generation ${generation}`);
  }
  if (event.case !== 'batch') continue;
  const { partition, lane, records } = event.value;
  for (const { offset, record } of records) console.log(`${offset}: ${Buffer.from(record!.value).toString()}`);
  const ranges = [{ first: records[0]!.offset!, last: records.at(-1)!.offset! }];
  const acks = [{ topic, partition: partition!, lane: lane!, ranges }];
  const { results } = await broker.ack({ group, memberId, generation: generation!, acks });
  const refused = results.find(({ status }) => status !== AckStatus.OK);
  if (refused !== undefined) throw new Error(`ack refused: ${AckStatus[refused.status]}`);
  break;
}
// Leaving the loop does not end the request; without this the process would stay.
stop.abort();
