import { expect, test, vi } from 'vitest';
import { firstPage } from '../../../src/broker/pages/paging.ts';
import { roomyAccount } from '../../account/accounts.ts';
import { command, Gate, records } from '../../log/scene.ts';
import { FakeClock } from '../../support/fake-clock.ts';
import { MemoryGroups } from '../../support/memory-group-store.ts';
import { MemoryLogs } from '../../support/memory-log-store.ts';
import { memoryLogStore, openInMemory, type SharedMemory } from './memory-broker.ts';

/** A database of topics with one partition, `t0` and so on. Each has a group of its name. */
async function databaseOf(topics: number): Promise<SharedMemory> {
  const shared = { logs: new MemoryLogs(), groups: new MemoryGroups() };
  const names = Array.from({ length: topics }, (_, n) => `t${n}`);
  for (const name of names) shared.logs.addTopic(name, 1);
  const clock = new FakeClock();
  const { opened } = await openInMemory({ clock, account: roomyAccount() }, shared);
  for (const name of names) {
    await opened.services.subscription.createSubscription({ group: name, topic: name, start: { type: 'latest' } });
    const published = opened.services.broker.publish(command(name, records(`of ${name}`)));
    await clock.settle();
    await published;
  }
  opened.stop();
  return shared;
}

/** Opens a broker that cannot read the ends of logs until its gate opens. */
async function openAtGate(shared: SharedMemory) {
  const clock = new FakeClock();
  const gate = new Gate();
  const store = memoryLogStore(clock, shared);
  store.before = (call) => (call === 'endsOf' ? gate.pass() : undefined);
  const { opened } = await openInMemory({ clock, account: roomyAccount() }, shared, store);
  return { clock, gate, store, opened };
}

test('a broker serves before it has read the ends of the logs, and with the same reads for any number of topics', async () => {
  const calls: string[][] = [];
  for (const topics of [1, 90]) {
    const { store, opened } = await openAtGate(await databaseOf(topics));
    const listed = await opened.services.topic.listTopics(firstPage);
    expect(listed.items).toHaveLength(topics);
    calls.push(store.calls.filter((call) => call !== 'endsOf'));
    opened.stop();
  }
  expect(calls[1]).toEqual(calls[0]);
});

test('a call that needs the ends of a log waits for them, and its topic comes before the others', async () => {
  const { clock, gate, store, opened } = await openAtGate(await databaseOf(90));
  const { topic, broker, message, subscription } = opened.services;
  await clock.settle();
  const reads = vi.spyOn(store, 'endsOf');
  const answers: string[] = [];
  const note = async (what: string, call: Promise<unknown>): Promise<void> => {
    await call;
    answers.push(what);
  };
  const from = { from: null, maxRecords: 10, maxBytes: 1_000_000 };
  const calls = Promise.all([
    note('GetTopic', topic.getTopic('t89', firstPage)),
    note('Publish', broker.publish(command('t88', records('x'), { expectedOffset: 1 }))),
    note('ReadMessages', message.readMessages({ topic: 't87', partition: 0, lane: null, ...from })),
    note(
      'CreateSubscription',
      subscription.createSubscription({ group: 'new', topic: 't86', start: { type: 'latest' } }),
    ),
    note('GetSubscription', subscription.getSubscription('t85', 't85', firstPage)),
  ]);
  await clock.settle();
  expect([answers, gate.waiting, [...opened.detail.topics()]]).toEqual([[], 2, []]);
  gate.open();
  await clock.settle();
  await calls;
  expect([answers.length, reads.mock.calls[0]?.[0].toSorted()]).toEqual([5, [87, 88, 89, 90]]);
  const { partitions } = await topic.getTopic('t86', firstPage);
  expect(partitions.items).toMatchObject([{ logStartOffset: 0, highWatermark: 1 }]);
  // Those reads lock the partitions.
  expect(store.count('ends')).toBe(0);
  opened.stop();
});

test('a broker that ends before it has read the ends of the logs rejects the calls that wait', async () => {
  const { clock, gate, opened } = await openAtGate(await databaseOf(3));
  const call = opened.services.topic.getTopic('t1', firstPage);
  await clock.settle();
  opened.stop();
  await expect(call).rejects.toMatchObject({ kind: 'DATABASE_UNAVAILABLE' });
  gate.open();
  await clock.settle();
  expect(clock.pending).toBe(0);
});
