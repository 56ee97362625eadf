import { expect, test } from 'vitest';
import * as broker from '../../src/errors/rejections/broker.ts';
import * as groups from '../../src/errors/rejections/groups.ts';
import * as members from '../../src/errors/rejections/members.ts';
import * as publishing from '../../src/errors/rejections/publishing.ts';
import { Rejection, rejectionFields, type RejectionReason } from '../../src/errors/rejections/rejection.ts';
import * as requests from '../../src/errors/rejections/requests.ts';
import * as topics from '../../src/errors/rejections/topics.ts';

const constructors = { ...broker, ...groups, ...members, ...publishing, ...requests, ...topics };

/** `topicNotFound` → TOPIC_NOT_FOUND. */
function reasonOf(name: string): string {
  return name.replaceAll(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase();
}

test('each reason has one constructor of its name, and no constructor is of another reason', () => {
  // A call that has several wrong fields is rejected by the plural of the ordinary constructor.
  const named = Object.keys(constructors).filter((name) => name !== 'invalidFields');
  expect(named.map(reasonOf).sort()).toEqual(Object.keys(rejectionFields).sort());
});

test('the metadata has every field as text, and leaves out the ones that are not known', () => {
  const byPartition = topics.partitionOutOfRange({ topic: 'orders', partitions: 3, partition: 7 });
  expect(byPartition).toBeInstanceOf(Rejection);
  expect(byPartition.reason).toBe('PARTITION_OUT_OF_RANGE' satisfies RejectionReason);
  expect(byPartition.metadata).toEqual({ topic: 'orders', partitions: '3' });
  const byLane = topics.partitionOutOfRange({ topic: 'orders', lanes: 2, lane: 2 });
  expect(byLane.metadata).toEqual({ topic: 'orders', lanes: '2' });
});
