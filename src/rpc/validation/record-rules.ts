import {
  OffsetRangeSchema,
  StartPosition_OffsetsSchema,
  StartPosition_PartitionOffsetSchema,
  StartPositionSchema,
  TopicPartitionSchema,
  type OffsetRange,
  type StartPosition,
  type StartPosition_PartitionOffset,
  type TopicPartition,
} from '../../../gen/millrace/v1/record_pb.js';
import { lane, list, name, noLane, notNegative, partition, requiredNumber, timestamp } from './field-rules.ts';
import { message, type Rule, type RuledFields } from './rule.ts';

/** Rules for the messages of record.proto that stand in requests of several services. */

/** A partition with all its lanes, as members hold it. */
export function topicPartitionRule(ruled: RuledFields): Rule<TopicPartition> {
  return message(ruled, TopicPartitionSchema, { topic: name, partition, lane: noLane });
}

/** A partition that an offset belongs to. */
export function partitionLogRule(ruled: RuledFields): Rule<TopicPartition> {
  return message(ruled, TopicPartitionSchema, { topic: name, partition, lane });
}

export function offsetRangeRule(ruled: RuledFields): Rule<OffsetRange> {
  const ends = { first: requiredNumber, last: requiredNumber };
  return message(ruled, OffsetRangeSchema, ends, (range, field, report) => {
    if (range.first !== undefined && range.last !== undefined && range.last < range.first) {
      report(`${field}.last`, 'must not be less than first');
    }
  });
}

export function startPositionRule(ruled: RuledFields, partitionsMax: number): Rule<StartPosition | undefined> {
  const partitionOffset = message(ruled, StartPosition_PartitionOffsetSchema, {
    partition,
    offset: requiredNumber,
    lane,
  });
  const offset = message(
    ruled,
    StartPosition_OffsetsSchema,
    { offset: notNegative, partitions: list(0, partitionsMax, partitionOffset) },
    (offsets, field, report) => {
      const twice = namedTwice(offsets.partitions);
      if (twice !== -1) report(`${field}.partitions[${twice}]`, 'names a partition that an earlier entry names');
    },
  );
  return message(ruled, StartPositionSchema, { offset, timestamp });
}

function namedTwice(entries: readonly StartPosition_PartitionOffset[]): number {
  const seen = new Set<string>();
  return entries.findIndex(({ partition, lane: named = 0 }) => {
    const place = `${partition}/${named}`;
    const known = seen.has(place);
    seen.add(place);
    return known;
  });
}
