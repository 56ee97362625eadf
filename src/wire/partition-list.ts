import { varintBytes, writeVarint } from './varint.ts';

const lengthDelimited = 2;
const topicTag = 0x0a;
const partitionTag = 0x10;

interface Place {
  readonly topic: string;
  readonly partition: number;
}

/**
 * A field of TopicPartition messages. A member may hold 100,000 partitions and gets all of them
 * with each change, for which an object each would cost twenty times as much. Partitions of one
 * topic should be neighbours, because the topic is then encoded once for all of them.
 */
export function encodePartitions(field: number, places: readonly Place[]): Buffer {
  const fieldTag = (field << 3) | lengthDelimited;
  const topics = new Map<string, Buffer>();
  let size = 0;
  for (const { topic, partition } of places) {
    let name = topics.get(topic);
    if (name === undefined) topics.set(topic, (name = encodedTopic(topic)));
    const bytes = name.length + 1 + varintBytes(partition);
    size += 1 + varintBytes(bytes) + bytes;
  }
  const target = Buffer.allocUnsafe(size);
  let at = 0;
  for (const { topic, partition } of places) {
    const name = topics.get(topic)!;
    target[at++] = fieldTag;
    at = writeVarint(target, at, name.length + 1 + varintBytes(partition));
    at += name.copy(target, at);
    target[at++] = partitionTag;
    at = writeVarint(target, at, partition);
  }
  return target;
}

/** A message within a message, as field `field`; its parts are encoded fields. */
export function encodeNested(field: number, parts: readonly Uint8Array[]): Buffer {
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  const head = Buffer.allocUnsafe(1 + varintBytes(length));
  head[0] = (field << 3) | lengthDelimited;
  writeVarint(head, 1, length);
  return Buffer.concat([head, ...parts]);
}

function encodedTopic(topic: string): Buffer {
  const name = Buffer.from(topic);
  const target = Buffer.allocUnsafe(1 + varintBytes(name.length) + name.length);
  target[0] = topicTag;
  name.copy(target, writeVarint(target, 1, name.length));
  return target;
}
