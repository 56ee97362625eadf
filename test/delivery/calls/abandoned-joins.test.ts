import { beforeEach, describe, expect, test } from 'vitest';
import { Reply } from '../../../src/delivery/ports/reply.ts';
import { offsetsOf, Scene, type FakeLog, type FakeStream } from '../scene.ts';

/** The longest session that a client may ask for. No test waits for its end. */
const sessionTimeoutMs = 1_800_000;
const instance = { instanceId: 'worker-1', sessionTimeoutMs };

let scene: Scene;
let logs: FakeLog[];
beforeEach(async () => {
  scene = await Scene.open();
  logs = scene.addTopic('orders', 2);
});

const memberIds = () => scene.describe('billing').members.map(({ memberId }) => memberId);

/** Each call that creates a member, up to the point where its reply is settled. */
const joins = {
  JoinGroup: (reply: Reply, changes: object = {}) => scene.join('billing', { sessionTimeoutMs, reply, ...changes }),
  Subscribe: async (reply: Reply, changes: object = {}) => {
    const { stream } = await scene.subscribe('billing', { sessionTimeoutMs, reply, ...changes });
    if (reply.isLost) stream!.closed('CONNECTION_LOST');
  },
  'a Pull that waits': (reply: Reply, changes: object = {}) =>
    scene.wait(scene.pull('billing', { sessionTimeoutMs, waitMs: 10_000, reply, ...changes })),
} as const;

/** Checks that the other member has both partitions, without a session timeout in between. */
async function expectAllAt(other: FakeStream): Promise<void> {
  await scene.gathered();
  for (const log of logs) log.append(1);
  await scene.clock.settle();
  expect(memberIds()).toEqual([other.memberId]);
  expect(other.batches.map(({ partition }) => partition).toSorted()).toEqual([0, 1]);
}

describe.each(Object.entries(joins))('%s that is given up', (_, begin) => {
  test('a call that is given up after the join and before its answer leaves no member that holds partitions', async () => {
    const other = await scene.subscribe('billing');
    await scene.gathered();
    const reply = new Reply();
    const joining = begin(reply);
    await scene.clock.settle();
    expect(memberIds()).toHaveLength(2);
    reply.lose();
    await joining.catch(() => undefined);
    await expectAllAt(other);
  });

  test('a call that is given up before its join leaves no member', async () => {
    const other = await scene.subscribe('billing');
    const reply = new Reply();
    const joining = begin(reply);
    reply.lose();
    await joining.catch(() => undefined);
    await expectAllAt(other);
  });

  test('a call that a member gives up takes nothing from that member', async () => {
    const { memberId } = await scene.join('billing', { sessionTimeoutMs });
    const reply = new Reply();
    const joining = begin(reply, { memberId });
    reply.lose();
    await joining.catch(() => undefined);
    await scene.gathered();
    expect(memberIds()).toEqual([memberId]);
  });

  test('a call that a new process of a static member gives up leaves the instance its partitions', async () => {
    await scene.join('billing', instance);
    const reply = new Reply();
    const joining = begin(reply, instance);
    reply.lose();
    await joining.catch(() => undefined);
    await scene.gathered();
    expect(scene.describe('billing').members).toMatchObject([{ instanceId: 'worker-1' }]);
  });

  test('calls that an instance gives up again and again, without an answer, leave no member', async () => {
    const other = await scene.subscribe('billing');
    const replies = [new Reply(), new Reply(), new Reply()];
    const joining = replies.map((reply) => begin(reply, instance).catch(() => undefined));
    await scene.clock.settle();
    for (const reply of replies) reply.lose();
    await Promise.all(joining);
    await expectAllAt(other);
  });
});

test('a client that dies after the handover of its answer keeps its partitions for its session', async () => {
  const reply = new Reply();
  const { memberId } = await scene.join('billing', { sessionTimeoutMs, reply });
  reply.handOver();
  reply.lose();
  await scene.gathered();
  expect(memberIds()).toEqual([memberId]);
});

test('records of a pull whose answer is lost go to the next member, and count no attempt', async () => {
  logs[0]!.append(2);
  const reply = new Reply();
  await scene.wait(scene.pull('billing', { sessionTimeoutMs, reply }));
  reply.lose();
  const next = await scene.wait(scene.pull('billing'));
  expect(offsetsOf(next)).toEqual([0, 1]);
  expect(JSON.parse(next.fields[0]!.toString())).toMatchObject({ attempts: [1, 1] });
});
