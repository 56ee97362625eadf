/**
 * node examples/typescript/publish.ts [TOPIC] [COUNT] : makes the topic if need be and publishes
 * COUNT records.
 */
import type { ServiceError } from '@grpc/grpc-js';
import { BrokerService } from '../../gen/millrace/v1/broker_pb.js';
import { TopicService } from '../../gen/millrace/v1/topic_pb.js';
import { call, connect, reason } from './client.ts';

const [topic = 'orders', count = '10'] = process.argv.slice(2);
const client = connect(process.env['MILLRACE_ADDRESS'] ?? '127.0.0.1:50051');

await call(client, TopicService.method.createTopic, { topic: { name: topic, partitions: 6 } }).catch(
  (error: ServiceError) => {
    if (reason(error) !== 'TOPIC_EXISTS') throw error;
    console.log(`${reason(error)}: publishing to the topic that exists`);
  },
);

// One request is one transaction: all of these records or none. Those of one key stay in order.
const { results } = await call(client, BrokerService.method.publish, {
  topic,
  records: Array.from({ length: Number(count) }, (_, i) => ({
    key: `customer-${i % 3}`,
    value: Buffer.from(`order ${i}`),
    headers: { type: 'OrderPlaced' },
    // Makes it safe to run this request again when its outcome is unknown.
    idempotencyKey: `${process.pid}-${Date.now()}-${i}`,
  })),
});
for (const { partition, offset } of results) console.log(`published to ${topic}/${partition} at ${offset}`);
client.close();
