import fc from 'fast-check';
import { beforeEach, expect, test } from 'vitest';
import { property } from '../../coordinator/property.ts';
import { Scene, type FakeStream } from '../scene.ts';

const changes = { assignmentChanges: true };
let scene: Scene;
beforeEach(async () => {
  // The stream of a member opens after its partitions have come, in one turn with them.
  scene = await Scene.open({ movesAtOnce: 10_000 });
  scene.addTopic('orders', 4);
});

const numbers = (places: readonly { readonly partition: number }[] | undefined): number[] | undefined =>
  places?.map(({ partition }) => partition);
const told = (stream: FakeStream): (number[] | undefined)[][] =>
  stream.of('assigned').map(({ partitions, removed }) => [numbers(partitions), numbers(removed)]);

test('a member that asked for changes gets the whole assignment once, and then only changes', async () => {
  const first = await scene.subscribe('billing', changes);
  await scene.gathered();
  const second = await scene.subscribe('billing', changes);
  const moved = first.of('revoking')[0]!.partitions.map(({ partition }) => partition);
  second.stream!.closed('CONNECTION_LOST');
  await scene.gathered();
  expect(told(first)).toEqual([
    [[0, 1, 2, 3], undefined],
    [[], moved],
    [moved, []],
  ]);
  expect(told(second)).toEqual([[moved, undefined]]);
});

test('a member that did not ask for changes gets the whole assignment each time', async () => {
  const first = await scene.subscribe('billing');
  await scene.gathered();
  const second = await scene.subscribe('billing', changes);
  const left = first.assigned;
  expect(left).toHaveLength(2);
  expect(told(first)).toEqual([
    [[0, 1, 2, 3], undefined],
    [left, undefined],
  ]);
  expect(second.assigned.concat(left).toSorted()).toEqual([0, 1, 2, 3]);
});

test('a partition whose revocation ends is named again, because Revoking had named it as going', async () => {
  const [log] = scene.topics.get('orders')!;
  const first = await scene.subscribe('billing', changes);
  for (const one of scene.topics.get('orders')!) one.append(1);
  await scene.gathered();
  expect(log!.endOffset).toBe(1);
  const second = await scene.subscribe('billing', changes);
  const asked = first.of('revoking')[0]!.partitions.map(({ partition }) => partition);
  second.stream!.closed('CONNECTION_LOST');
  await scene.gathered();
  expect(told(first).at(-1)).toEqual([asked, []]);
  expect(first.assigned.toSorted()).toEqual([0, 1, 2, 3]);
});

test('a member that resumes gets the whole assignment, because its new process knows nothing', async () => {
  const options = { ...changes, sessionTimeoutMs: 30_000 };
  const first = await scene.subscribe('billing', options);
  first.stream!.closed('CONNECTION_LOST');
  await scene.clock.settle();
  const again = await scene.subscribe('billing', { ...options, memberId: first.memberId });
  expect(told(again)).toEqual([[[0, 1, 2, 3], undefined]]);
  const other = await scene.subscribe('billing', { memberId: first.memberId, sessionTimeoutMs: 30_000 });
  await scene.gathered();
  await scene.subscribe('billing');
  await scene.gathered();
  expect(told(other).every(([, removed]) => removed === undefined)).toBe(true);
  expect(other.assigned).toHaveLength(2);
});

test('the end of a topic is sent as a change that removes its partitions', async () => {
  const stream = await scene.subscribe('billing', changes);
  await scene.wait(scene.delivery.deleteTopic(1, () => Promise.resolve()));
  await scene.clock.settle();
  expect(told(stream).at(-1)).toEqual([[], [0, 1, 2, 3]]);
});

interface Told {
  readonly stream: FakeStream;
  /** The number of events that the client has read. */
  read: number;
  readonly has: Set<number>;
}

/** Reads the events that have come since the last call. */
function readOn(all: readonly Told[]): void {
  for (const one of all) {
    const events = one.stream.events.slice(one.read);
    one.read += events.length;
    for (const event of events) {
      if (event.type !== 'assigned') continue;
      if (event.removed === undefined) one.has.clear();
      for (const { partition } of event.removed ?? []) one.has.delete(partition);
      for (const { partition } of event.partitions) one.has.add(partition);
    }
  }
}

const operation = fc.oneof(
  fc.record({ type: fc.constant('join'), changes: fc.boolean() }),
  fc.record({ type: fc.constant('leave'), member: fc.nat(3) }),
  fc.record({ type: fc.constant('append'), partition: fc.nat(5) }),
  fc.record({ type: fc.constant('ack'), member: fc.nat(3), partition: fc.nat(5) }),
  fc.record({ type: fc.constant('stall'), member: fc.nat(3) }),
  fc.record({ type: fc.constant('read'), member: fc.nat(3) }),
  fc.record({ type: fc.constant('wait'), ms: fc.constantFrom(1, 60, 11_000) }),
);

test('a client that reads has the assignment of its member, with changes or whole, however long it did not read', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(operation, { minLength: 5, maxLength: 30 }), async (operations) => {
      const site = await Scene.open();
      const logs = site.addTopic('orders', 6);
      const all: Told[] = [];
      for (const one of operations) {
        if (one.type === 'join') {
          if (all.length === 4) continue;
          const stream = await site.subscribe('billing', { assignmentChanges: one.changes });
          all.push({ stream, read: 0, has: new Set() });
        } else if (one.type === 'leave') {
          all.splice(one.member, 1)[0]?.stream.stream!.closed('CONNECTION_LOST');
        } else if (one.type === 'append') {
          logs[one.partition]!.append(1);
        } else if (one.type === 'wait') {
          await site.clock.advance(one.ms);
        } else if (one.type === 'stall') {
          all[one.member]?.stream.stall();
        } else if (one.type === 'read') {
          all[one.member]?.stream.readOn();
        } else {
          const stream = all[one.member]?.stream;
          const upToOffset = logs[one.partition]!.endOffset - 1;
          if (stream !== undefined && upToOffset >= 0)
            await site.ack('billing', stream, { partition: one.partition, upToOffset });
        }
        await site.clock.settle();
        readOn(all);
        const reading = all.filter(({ stream }) => stream.unsentBytes === 0);
        const told = reading.flatMap(({ has }) => [...has]);
        expect(new Set(told).size).toBe(told.length);
        const held = all.length === 0 ? [] : site.describe('billing').members;
        for (const { stream, has } of reading) {
          const member = held.find(({ memberId }) => memberId === stream.memberId);
          expect([...has].sort()).toEqual(numbers(member!.partitions));
        }
      }
    }),
    property(200),
  );
});
