import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Assignor } from '../../src/coordinator/assignors/assignor.ts';
import { builtInAssignors } from '../../src/coordinator/assignors/built-in.ts';
import { range } from '../../src/coordinator/assignors/range.ts';
import type { GroupEffect, GroupInput, PlannedPartition } from '../../src/coordinator/group.ts';
import { CheckedScene } from './invariants.ts';
import { property } from './property.ts';
import {
  alive,
  drained,
  hold,
  id,
  join,
  leave,
  progress,
  remove,
  Scene,
  tick,
  topic,
  type GroupOptions,
} from './scene.ts';

const topics = [1, 2, 3];
/** Two processes of each of two instances, and members without an instance. */
const instanceOf: Readonly<Record<string, string | null>> = {
  a: null,
  b: null,
  c: null,
  x1: 'x',
  x2: 'x',
  y1: 'y',
  y2: 'y',
};
const memberId = fc.constantFrom(...Object.keys(instanceOf));

type PlanFault = 'none' | 'forgets' | 'twice' | 'stranger' | 'made up' | 'stale' | 'not the leader';

type Command =
  | { readonly type: 'inputs'; readonly inputs: readonly GroupInput[] }
  /** The n-th partition that is being given back has nothing in flight any more. */
  | { readonly type: 'drain'; readonly nth: number }
  /** Its member confirms it. */
  | { readonly type: 'confirm'; readonly nth: number }
  /** The leader makes its plan, well or badly, with other inputs in the same step. */
  | { readonly type: 'plan'; readonly fault: PlanFault; readonly others: readonly GroupInput[] }
  /** From now on the member acks nothing; the group finds out. */
  | { readonly type: 'neglect'; readonly name: string }
  | { readonly type: 'work'; readonly name: string }
  | { readonly type: 'pass'; readonly ms: number }
  | { readonly type: 'deadline'; readonly others: readonly GroupInput[] }
  | { readonly type: 'takeover'; readonly others: readonly GroupInput[] }
  /** The broker dies before what comes of these is written. */
  | { readonly type: 'crash'; readonly inputs: readonly GroupInput[] };

/** Fails, or forgets something, for some groups; always the same way for the same group. */
const flaky: Assignor = (input) => {
  const partitions = input.topics.reduce((sum, one) => sum + one.partitions, 0);
  const mood = (input.members.length * 7 + partitions) % 5;
  if (mood === 0) throw new Error('it is in a bad mood');
  return mood === 1 ? new Map() : range(input);
};

interface World {
  readonly gatherMs: number;
  /** Rules of the members' own that they join with. */
  readonly clientAssignors: readonly (readonly string[])[];
  readonly assignors: readonly string[];
}

const sorts: readonly Omit<World, 'gatherMs'>[] = [
  { clientAssignors: [[]], assignors: ['sticky', 'cooperative_sticky', 'range', 'round_robin'] },
  { clientAssignors: [[]], assignors: ['sticky', 'flaky', 'unheard-of'] },
  { clientAssignors: [['even'], ['even', 'odd'], ['odd']], assignors: ['sticky'] },
  { clientAssignors: [[], ['even'], []], assignors: ['sticky', 'flaky'] },
];

const world: fc.Arbitrary<World> = fc
  .record({ sort: fc.constantFrom(...sorts), gatherMs: fc.constantFrom(0, 0, 3_000) })
  .map(({ sort, gatherMs }) => ({ ...sort, gatherMs }));

const assignors = new Map([...builtInAssignors, ['flaky', flaky] as const]);
/** Every name is that of a rule that works. */
const reliable = new Map([...builtInAssignors, ['flaky', range] as const, ['unheard-of', range] as const]);

function anyInput({ clientAssignors, assignors }: World): fc.Arbitrary<GroupInput> {
  const anyTopic = fc.constantFrom(...topics);
  const aJoin = fc
    .record({
      name: memberId,
      topicIds: fc.subarray(topics, { minLength: 1 }),
      sessionTimeoutMs: fc.constantFrom(null, 6_000, 30_000, 30_000),
      rebalanceTimeoutMs: fc.constantFrom(1_000, 60_000),
      maxPollIntervalMs: fc.constantFrom(2_000, 20_000),
      assignor: fc.constantFrom(...assignors),
      clientAssignors: fc.constantFrom(...clientAssignors),
      metadata: fc.constantFrom(new Uint8Array(), new Uint8Array(), Uint8Array.of(1)),
      // Now and then somebody mistakes who it is.
      mistaken: fc.constantFrom(false, false, false, false, false, true),
    })
    .map(({ name, topicIds, mistaken, ...row }) => {
      const instanceId = mistaken ? 'x' : (instanceOf[name] ?? null);
      return join(name, topicIds, { ...row, instanceId });
    });
  return fc.oneof(
    { weight: 6, arbitrary: aJoin },
    // A new process of the same instance with the same options.
    {
      weight: 2,
      arbitrary: memberId.map((name) =>
        join(name, topics, { instanceId: instanceOf[name] ?? null, clientAssignors: clientAssignors[0] ?? [] }),
      ),
    },
    { weight: 2, arbitrary: memberId.map((name) => leave(name)) },
    { weight: 2, arbitrary: memberId.map((name) => alive(name)) },
    { weight: 1, arbitrary: memberId.map((name) => progress(name, null)) },
    { weight: 1, arbitrary: fc.tuple(fc.nat(5), anyTopic).map(([n, topicId]) => drained(n, topicId)) },
    { weight: 2, arbitrary: fc.tuple(fc.nat(6), anyTopic).map(([n, topicId]) => topic(n, topicId)) },
    { weight: 1, arbitrary: fc.tuple(fc.boolean(), anyTopic).map(([held, topicId]) => hold(held, topicId)) },
    { weight: 1, arbitrary: fc.constant(tick) },
    { weight: 1, arbitrary: fc.constantFrom(tick, tick, tick, tick, tick, tick, tick, remove) },
  );
}

function commandsOf(of: World, maxLength: number): fc.Arbitrary<Command[]> {
  const some = fc.array(anyInput(of), { minLength: 1, maxLength: 4 });
  const others = fc.array(anyInput(of), { maxLength: 2 });
  const fault = fc.constantFrom<PlanFault>(
    'none',
    'none',
    'none',
    'none',
    'forgets',
    'twice',
    'stranger',
    'made up',
    'stale',
    'not the leader',
  );
  const command: fc.Arbitrary<Command> = fc.oneof(
    { weight: 9, arbitrary: some.map((inputs) => ({ type: 'inputs' as const, inputs })) },
    { weight: 3, arbitrary: fc.nat(20).map((nth) => ({ type: 'drain' as const, nth })) },
    { weight: 1, arbitrary: fc.nat(20).map((nth) => ({ type: 'confirm' as const, nth })) },
    {
      weight: of.clientAssignors.length > 1 ? 4 : 1,
      arbitrary: fc.record({ type: fc.constant('plan' as const), fault, others: fc.oneof(fc.constant([]), others) }),
    },
    { weight: 4, arbitrary: memberId.map((name) => ({ type: 'neglect' as const, name })) },
    { weight: 1, arbitrary: memberId.map((name) => ({ type: 'work' as const, name })) },
    { weight: 2, arbitrary: fc.integer({ min: 1, max: 8_000 }).map((ms) => ({ type: 'pass' as const, ms })) },
    { weight: 3, arbitrary: others.map((inputs) => ({ type: 'deadline' as const, others: inputs })) },
    { weight: 1, arbitrary: others.map((inputs) => ({ type: 'takeover' as const, others: inputs })) },
    { weight: 1, arbitrary: some.map((inputs) => ({ type: 'crash' as const, inputs })) },
  );
  // `size`: by itself fast-check would make a few commands only.
  return fc.array(command, { minLength: 1, maxLength, size: 'max' });
}

/** A world and what happens in it. */
function histories(maxLength: number): fc.Arbitrary<{ of: World; commands: Command[] }> {
  return world.chain((of) => commandsOf(of, maxLength).map((commands) => ({ of, commands })));
}

function planOf(scene: CheckedScene, fault: PlanFault): GroupInput {
  const { group } = scene;
  const plan = scene.honestPlan();
  const [first, ...rest] = plan;
  const wrong = (one: Partial<PlannedPartition>): PlannedPartition[] =>
    first === undefined ? [] : [{ ...first, ...one }];
  const plans: Readonly<Record<PlanFault, readonly PlannedPartition[]>> = {
    none: plan,
    stale: plan,
    'not the leader': plan,
    forgets: rest,
    twice: [...plan, ...wrong({})],
    stranger: [...rest, ...wrong({ memberId: id('nobody') })],
    'made up': [...plan, ...wrong({ partition: 99 })],
  };
  const leader = group.leader ?? id('a');
  const other = group.members().find((row) => row.memberId !== leader)?.memberId ?? id('nobody');
  return {
    type: 'assign',
    memberId: fault === 'not the leader' ? other : leader,
    generation: group.generation - (fault === 'stale' ? 1 : 0),
    plan: plans[fault],
  };
}

/**
 * @returns the inputs of the step that it comes to, and whether a takeover comes before it; null:
 * no step.
 */
function inputsOf(scene: CheckedScene, todo: Command): readonly GroupInput[] | null {
  const moving = scene.revoking();
  switch (todo.type) {
    case 'inputs':
      return todo.inputs;
    case 'drain': {
      const one = moving[todo.nth % Math.max(1, moving.length)];
      return one === undefined ? null : [{ type: 'drained', partition: one.ref }];
    }
    case 'confirm': {
      const one = moving[todo.nth % Math.max(1, moving.length)];
      return one === undefined ? null : [{ type: 'alive', memberId: one.memberId, revoked: [one.ref] }];
    }
    case 'plan':
      return [planOf(scene, todo.fault), ...todo.others];
    case 'neglect':
      if (!scene.busySinceMs.has(id(todo.name))) scene.busySinceMs.set(id(todo.name), scene.nowMs);
      return null;
    case 'work':
      scene.busySinceMs.delete(id(todo.name));
      return [progress(todo.name, scene.nowMs)];
    case 'pass':
      scene.nowMs += todo.ms;
      return null;
    case 'deadline':
      scene.nowMs = Math.max(scene.nowMs, scene.group.nextDeadlineMs() ?? 0);
      return [tick, ...todo.others];
    case 'takeover':
      scene.takeOver();
      return todo.others;
    case 'crash':
      scene.crash(...todo.inputs);
      return [];
  }
}

function run(scene: CheckedScene, todo: Command): readonly GroupEffect[] {
  const inputs = inputsOf(scene, todo);
  return inputs === null ? [] : scene.step(...inputs);
}

function begin({ gatherMs }: World, rules: NonNullable<GroupOptions['assignors']> = assignors): CheckedScene {
  const scene = new CheckedScene({ gatherMs, assignors: rules });
  scene.step(topic(4, 1), topic(3, 2), topic(2, 3));
  return scene;
}

test('whatever comes in whatever order, no invariant of SPEC.md breaks', () => {
  fc.assert(
    fc.property(histories(40), ({ of, commands }) => {
      const scene = begin(of);
      for (const todo of commands) run(scene, todo);
    }),
    property(600),
  );
}, 3_600_000);

test('a group that is left alone comes to rest by its deadlines alone', () => {
  fc.assert(
    fc.property(histories(25), ({ of, commands }) => {
      const scene = begin(of);
      for (const todo of commands) run(scene, todo);
      const moving = (): boolean => ['PREPARING_REBALANCE', 'COMPLETING_REBALANCE'].includes(scene.group.state());
      // Each that is to make a plan may let its time pass, one after the other, and then those that
      // have to give back.
      const restMs = scene.nowMs + (scene.group.memberCount + 1) * 61_000;
      while (moving() && scene.nowMs <= restMs) {
        const deadlineMs = scene.group.nextDeadlineMs() ?? Infinity;
        scene.nowMs = Math.max(scene.nowMs, Math.min(deadlineMs, restMs + 1));
        scene.step(tick);
      }
      expect(['STABLE', 'EMPTY', 'DEAD']).toContain(scene.group.state());
    }),
    property(300),
  );
}, 3_600_000);

test('the same inputs give the same effects', () => {
  fc.assert(
    fc.property(histories(25), ({ of, commands }) => {
      const [one, other] = [begin(of), begin(of)];
      for (const todo of commands) expect(run(one, todo)).toEqual(run(other, todo));
      expect(one.group.snapshot()).toEqual(other.group.snapshot());
      expect(one.group.nextDeadlineMs()).toEqual(other.group.nextDeadlineMs());
    }),
    property(100),
  );
}, 3_600_000);

test('a group goes on as if what it refused had never been sent', () => {
  fc.assert(
    fc.property(histories(25), ({ of, commands }) => {
      // A join that is refused because the assignor failed is a sign of life, which moves
      // deadlines.
      const scene = begin(of, reliable);
      const spared = new Scene(scene.options);
      spared.step(topic(4, 1), topic(3, 2), topic(2, 3));
      for (const todo of commands) {
        if (todo.type === 'takeover' || todo.type === 'crash') continue;
        const inputs = inputsOf(scene, todo);
        spared.nowMs = scene.nowMs;
        for (const [name, sinceMs] of scene.busySinceMs) spared.busySinceMs.set(name, sinceMs);
        if (todo.type === 'work') spared.busySinceMs.delete(id(todo.name));
        if (inputs === null) continue;
        const effects = scene.step(...inputs);
        const refused = new Set(effects.flatMap((effect) => (effect.type === 'refused' ? [effect.input] : [])));
        const others = spared.step(...inputs.filter((input) => !refused.has(input)));
        expect(others).toEqual(effects.filter(({ type }) => type !== 'refused'));
        expect(spared.group.state()).toBe(scene.group.state());
        expect(spared.group.nextDeadlineMs()).toBe(scene.group.nextDeadlineMs());
      }
    }),
    property(200),
  );
}, 3_600_000);
