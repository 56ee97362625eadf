import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { GroupInput } from '../../src/coordinator/group.ts';
import { CheckedScene } from './invariants.ts';
import { property } from './property.ts';
import { alive, drained, join, leave, tick, topic } from './scene.ts';

const members = ['a', 'b', 'c', 'd', 'e'];
const topics = [1, 2, 3];

type Command =
  | { readonly type: 'inputs'; readonly inputs: readonly GroupInput[] }
  /** The n-th partition that is being given back has nothing in flight any more. */
  | { readonly type: 'drain'; readonly nth: number }
  /** Its member confirms it. */
  | { readonly type: 'confirm'; readonly nth: number }
  | { readonly type: 'pass'; readonly ms: number }
  | { readonly type: 'deadline' }
  | { readonly type: 'takeover' };

const memberId = fc.constantFrom(...members);
const anyInput: fc.Arbitrary<GroupInput> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc
      .record({
        memberId,
        topicIds: fc.subarray(topics, { minLength: 1 }),
        sessionTimeoutMs: fc.constantFrom(null, 6_000, 30_000),
        rebalanceTimeoutMs: fc.constantFrom(1_000, 60_000),
        assignor: fc.constantFrom('sticky', 'cooperative_sticky', 'range', 'round_robin'),
      })
      .map(({ memberId: name, topicIds, ...row }) => join(name, topicIds, row)),
  },
  { weight: 2, arbitrary: memberId.map((name) => leave(name)) },
  { weight: 2, arbitrary: memberId.map((name) => alive(name)) },
  { weight: 1, arbitrary: fc.tuple(fc.nat(5), fc.constantFrom(...topics)).map(([n, id]) => drained(n, id)) },
  { weight: 2, arbitrary: fc.tuple(fc.nat(6), fc.constantFrom(...topics)).map(([n, id]) => topic(n, id)) },
  { weight: 1, arbitrary: fc.constant(tick) },
);

const command: fc.Arbitrary<Command> = fc.oneof(
  { weight: 6, arbitrary: fc.array(anyInput, { maxLength: 4 }).map((inputs) => ({ type: 'inputs' as const, inputs })) },
  { weight: 3, arbitrary: fc.nat(20).map((nth) => ({ type: 'drain' as const, nth })) },
  { weight: 1, arbitrary: fc.nat(20).map((nth) => ({ type: 'confirm' as const, nth })) },
  { weight: 1, arbitrary: fc.integer({ min: 1, max: 8_000 }).map((ms) => ({ type: 'pass' as const, ms })) },
  { weight: 1, arbitrary: fc.constant({ type: 'deadline' as const }) },
  { weight: 1, arbitrary: fc.constant({ type: 'takeover' as const }) },
);

function run(scene: CheckedScene, todo: Command): void {
  const moving = scene.revoking();
  switch (todo.type) {
    case 'inputs':
      scene.step(...todo.inputs);
      return;
    case 'drain': {
      const one = moving[todo.nth % Math.max(1, moving.length)];
      if (one !== undefined) scene.step({ type: 'drained', partition: one.ref });
      return;
    }
    case 'confirm': {
      const one = moving[todo.nth % Math.max(1, moving.length)];
      if (one !== undefined) scene.step({ type: 'alive', memberId: one.memberId, revoked: [one.ref] });
      return;
    }
    case 'pass':
      scene.nowMs += todo.ms;
      return;
    case 'deadline':
      scene.nowMs = Math.max(scene.nowMs, scene.group.nextDeadlineMs() ?? 0);
      scene.step(tick);
      return;
    case 'takeover':
      scene.takeOver();
      scene.step();
  }
}

test('whatever comes in whatever order, no invariant of SPEC.md breaks', () => {
  fc.assert(
    fc.property(fc.array(command, { minLength: 1, maxLength: 40 }), (commands) => {
      const scene = new CheckedScene();
      scene.step(topic(4, 1), topic(3, 2), topic(2, 3));
      for (const todo of commands) run(scene, todo);
    }),
    property(600),
  );
}, 60_000);

test('a group that is left alone becomes stable by its deadlines alone', () => {
  fc.assert(
    fc.property(fc.array(command, { minLength: 1, maxLength: 25 }), (commands) => {
      const scene = new CheckedScene();
      scene.step(topic(4, 1), topic(3, 2), topic(2, 3));
      for (const todo of commands) run(scene, todo);
      for (let deadline = scene.group.nextDeadlineMs(); deadline !== null; deadline = scene.group.nextDeadlineMs()) {
        scene.nowMs = Math.max(scene.nowMs, deadline);
        scene.step(tick);
      }
      expect(scene.group.state()).not.toBe('RECONCILING');
    }),
    property(300),
  );
}, 60_000);

test('the same inputs give the same effects', () => {
  fc.assert(
    fc.property(fc.array(command, { minLength: 1, maxLength: 25 }), (commands) => {
      const [one, other] = [new CheckedScene(), new CheckedScene()];
      for (const scene of [one, other]) for (const todo of commands) run(scene, todo);
      expect(one.group.snapshot()).toEqual(other.group.snapshot());
      expect(one.group.nextDeadlineMs()).toEqual(other.group.nextDeadlineMs());
    }),
    property(100),
  );
}, 60_000);
