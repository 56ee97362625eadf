import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { GroupInput, GroupState } from '../../src/coordinator/group.ts';
import { property } from './property.ts';
import {
  alive,
  assign,
  drained,
  hold,
  id,
  join,
  joinClassic,
  joinInstance,
  leave,
  progress,
  remove,
  Scene,
  tick,
  topic,
} from './scene.ts';

type InputType = GroupInput['type'];
/** A scene in the state of the row, and the input that leads to the state of the column. */
type Example = () => { readonly scene: Scene; readonly input: GroupInput };
type Cell = Readonly<Record<GroupState, Example | 'never'>>;

const states = ['EMPTY', 'PREPARING_REBALANCE', 'COMPLETING_REBALANCE', 'STABLE', 'DEAD'] as const;
const range = { assignor: 'range' } as const;
const inTurn = { assignor: 'round_robin' } as const;
const p = (partition: number) => ({ topicId: 1, partition });
/** A join with this assignor fails in every rebalance. */
const unheardOf = { assignor: 'unheard-of' };

/**
 * Bundles of inputs, a number of milliseconds to let pass, or a member that acks nothing from then
 * on.
 */
type Before = readonly GroupInput[] | number | string;

/** A group that rebalances at once. */
function start(...steps: [...Before[], GroupInput]): Example {
  return exampleOf(0, steps);
}

/** A group that gathers what comes within 10 s of its last rebalance. */
function gathering(...steps: [...Before[], GroupInput]): Example {
  return exampleOf(10_000, steps);
}

function exampleOf(gatherMs: number, steps: [...Before[], GroupInput]): Example {
  return () => {
    const scene = new Scene({ gatherMs });
    for (const step of steps.slice(0, -1) as Before[]) {
      if (typeof step === 'number') scene.nowMs += step;
      else if (typeof step === 'string') scene.busySinceMs.set(id(step), scene.nowMs);
      else scene.step(...step);
    }
    return { scene, input: steps.at(-1) as GroupInput };
  };
}

/** Only to these states. */
function to(examples: Partial<Record<GroupState, Example>>): Cell {
  return {
    EMPTY: 'never',
    PREPARING_REBALANCE: 'never',
    COMPLETING_REBALANCE: 'never',
    STABLE: 'never',
    DEAD: 'never',
    ...examples,
  };
}

const settled = [topic(4), join('a')];
/** The group gathers, and this input does not end that. */
const goesOnGathering = (input: GroupInput): Cell =>
  to({ PREPARING_REBALANCE: gathering(settled, [join('b')], input) });
const staysEmpty = (input: GroupInput): Cell => to({ EMPTY: start([topic(4)], input) });
const staysDead = (input: GroupInput): Cell => to({ DEAD: start([topic(4), remove], input) });

/** a has stalled, and its partition of topic 1 lies idle; b may read topic 1 or not. */
const stalled: Before[] = ['a', 2_000];
const short = { maxPollIntervalMs: 2_000 };

/**
 * Single inputs while no deadline has passed; `tick` stands for deadlines. A missing cell does not
 * compile.
 */
const table: Readonly<Record<GroupState, Readonly<Record<InputType, Cell>>>> = {
  EMPTY: {
    join: to({
      EMPTY: start([topic(4)], join('a', [1], unheardOf)),
      PREPARING_REBALANCE: gathering(settled, [leave('a')], join('b')),
      COMPLETING_REBALANCE: start([topic(4)], joinClassic('a')),
      STABLE: start([topic(4)], join('a')),
    }),
    leave: staysEmpty(leave('a')),
    alive: staysEmpty(alive('a')),
    progress: staysEmpty(progress('a', null)),
    drained: staysEmpty(drained(0)),
    assign: staysEmpty(assign('a', 0)),
    topic: staysEmpty(topic(5)),
    hold: staysEmpty(hold(true)),
    delete: to({ DEAD: start([topic(4)], remove) }),
    tick: staysEmpty(tick),
  },
  PREPARING_REBALANCE: {
    join: goesOnGathering(join('c')),
    leave: to({
      EMPTY: gathering(settled, [join('a', [2])], leave('a')),
      PREPARING_REBALANCE: gathering(settled, [join('b')], leave('b')),
    }),
    alive: goesOnGathering(alive('a')),
    progress: goesOnGathering(progress('a', null)),
    drained: goesOnGathering(drained(0)),
    assign: goesOnGathering(assign('a', 1)),
    topic: goesOnGathering(topic(6)),
    hold: goesOnGathering(hold(true)),
    delete: goesOnGathering(remove),
    tick: to({
      EMPTY: gathering(settled, [leave('a')], [join('b', [1], unheardOf)], 10_000, tick),
      PREPARING_REBALANCE: gathering(settled, [join('b')], 9_999, tick),
      COMPLETING_REBALANCE: gathering(settled, [join('b')], 10_000, tick),
      STABLE: gathering(settled, [topic(5)], 10_000, tick),
    }),
  },
  COMPLETING_REBALANCE: {
    join: to({
      PREPARING_REBALANCE: gathering(settled, 10_000, [join('b')], join('c')),
      COMPLETING_REBALANCE: start(settled, [join('b')], join('c')),
      // The new member reads another topic after all.
      STABLE: start(settled, [join('b')], join('b', [2])),
    }),
    leave: to({
      // The only member reads one topic less and has not given it back yet.
      EMPTY: start([topic(4), topic(2, 2), join('a', [1, 2])], [join('a', [1])], leave('a')),
      PREPARING_REBALANCE: gathering(settled, 10_000, [join('b')], leave('b')),
      COMPLETING_REBALANCE: start(settled, [join('b'), join('c')], leave('c')),
      STABLE: start(settled, [join('b')], leave('b')),
    }),
    alive: to({
      COMPLETING_REBALANCE: start(settled, [join('b')], alive('a', p(2))),
      STABLE: start(settled, [join('b')], alive('a', p(2), p(3))),
    }),
    progress: to({
      PREPARING_REBALANCE: gathering(
        [topic(4), join('a', [1], short), join('b')],
        'a',
        10_000,
        [tick],
        10_000,
        [join('c')],
        progress('a', null),
      ),
      COMPLETING_REBALANCE: start(settled, [join('b')], progress('a', null)),
      // Without a it is the turn of b, and what c holds is on its way there.
      STABLE: start(
        [
          topic(1),
          topic(1, 2),
          join('b', [2], inTurn),
          join('a', [1], { ...inTurn, ...short }),
          join('c', [2], inTurn),
        ],
        ...stalled,
        [tick],
        progress('a', null),
      ),
    }),
    drained: to({
      COMPLETING_REBALANCE: start(settled, [join('b')], drained(2)),
      STABLE: start(settled, [join('b')], [drained(2)], drained(3)),
    }),
    assign: to({
      COMPLETING_REBALANCE: start(
        [topic(2), joinClassic('a')],
        [assign('a', 1, 'a', 'a')],
        [joinClassic('b')],
        assign('a', 2, 'a', 'b'),
      ),
      STABLE: start([topic(2), joinClassic('a')], assign('a', 1, 'a', 'a')),
    }),
    topic: to({
      PREPARING_REBALANCE: gathering(settled, 10_000, [join('b')], topic(6)),
      COMPLETING_REBALANCE: start(settled, [join('b')], topic(2, 2)),
      STABLE: start(settled, [join('b')], topic(0)),
    }),
    hold: to({
      PREPARING_REBALANCE: gathering(settled, 10_000, [join('b')], hold(true)),
      COMPLETING_REBALANCE: start(settled, [join('b')], hold(true)),
      STABLE: start(settled, [hold(true)], hold(false)),
    }),
    delete: to({ COMPLETING_REBALANCE: start(settled, [join('b')], remove) }),
    tick: to({
      EMPTY: start(settled, [join('b')], 30_000, tick),
      PREPARING_REBALANCE: gathering(settled, 10_000, [join('b', [1], { sessionTimeoutMs: 6_000 })], 6_000, tick),
      COMPLETING_REBALANCE: start(settled, [join('b')], 1, tick),
      STABLE: start([topic(4), join('a', [1], { rebalanceTimeoutMs: 1_000 })], [join('b')], 1_000, tick),
    }),
  },
  STABLE: {
    join: to({
      PREPARING_REBALANCE: gathering(settled, join('b')),
      COMPLETING_REBALANCE: start(settled, join('b')),
      STABLE: start([topic(4), joinInstance('a', 'one')], joinInstance('b', 'one')),
    }),
    leave: to({
      EMPTY: start(settled, leave('a')),
      PREPARING_REBALANCE: gathering([topic(4), join('a'), join('b')], leave('a')),
      // Range splits the partitions again, so some move between b and c.
      COMPLETING_REBALANCE: start(
        [topic(4), join('a', [1], range), join('b', [1], range), join('c', [1], range)],
        leave('a'),
      ),
      STABLE: start([topic(4), join('a'), join('b')], leave('a')),
    }),
    alive: to({ STABLE: start(settled, alive('a')) }),
    progress: to({
      PREPARING_REBALANCE: gathering(
        [topic(4), join('a', [1], short), join('b')],
        'a',
        10_000,
        [tick],
        progress('a', null),
      ),
      COMPLETING_REBALANCE: start(
        [topic(4), join('a', [1], short), join('b')],
        ...stalled,
        [tick],
        progress('a', null),
      ),
      STABLE: start(settled, progress('a', 0)),
    }),
    drained: to({ STABLE: start(settled, drained(0)) }),
    assign: to({ STABLE: start([topic(2), joinClassic('a')], [assign('a', 1, 'a', 'a')], assign('a', 1, 'a', 'a')) }),
    topic: to({
      PREPARING_REBALANCE: gathering(settled, topic(6)),
      COMPLETING_REBALANCE: start([topic(4), join('a', [1], range), join('b', [1], range)], topic(6)),
      STABLE: start(settled, topic(6)),
    }),
    hold: to({
      PREPARING_REBALANCE: gathering(settled, hold(true)),
      COMPLETING_REBALANCE: start(settled, hold(true)),
      STABLE: start(settled, [hold(true), drained(0)], [drained(0), drained(1), drained(2), drained(3)], hold(false)),
    }),
    delete: to({ STABLE: start(settled, remove) }),
    tick: to({
      EMPTY: start(settled, 30_000, tick),
      PREPARING_REBALANCE: gathering([topic(4), join('a'), join('b', [1], { sessionTimeoutMs: 6_000 })], 6_000, tick),
      COMPLETING_REBALANCE: start(
        [topic(4), join('a', [1], { ...range, sessionTimeoutMs: 6_000 }), join('b', [1], range), join('c', [1], range)],
        6_000,
        tick,
      ),
      STABLE: start([topic(4), join('a', [1], short), join('b')], ...stalled, tick),
    }),
  },
  DEAD: {
    join: staysDead(join('a')),
    leave: staysDead(leave('a')),
    alive: staysDead(alive('a')),
    progress: staysDead(progress('a', null)),
    drained: staysDead(drained(0)),
    assign: staysDead(assign('a', 0)),
    topic: staysDead(topic(5)),
    hold: staysDead(hold(true)),
    delete: staysDead(remove),
    tick: staysDead(tick),
  },
};

const cells = states.flatMap((from) =>
  (Object.keys(table[from]) as InputType[]).flatMap((type) => states.map((next) => ({ from, type, next }))),
);

describe('the transition table', () => {
  test.each(cells.filter(({ from, type, next }) => table[from][type][next] !== 'never'))(
    '$from may become $next by $type',
    ({ from, type, next }) => {
      const { scene, input } = (table[from][type][next] as Example)();
      expect(scene.group.state()).toBe(from);
      expect(input.type).toBe(type);
      scene.step(input);
      expect(scene.group.state()).toBe(next);
    },
  );

  test('a transition that the table calls never does not happen', () => {
    const members = fc.constantFrom('a', 'b', 'c');
    const topics = fc.constantFrom(1, 2);
    const options = fc.constantFrom(range, inTurn, unheardOf, {}, {}, {});
    const input = fc.oneof(
      {
        weight: 3,
        arbitrary: fc
          .tuple(members, fc.subarray([1, 2], { minLength: 1 }), options)
          .map(([name, read, row]) => join(name, read, { ...row, ...short })),
      },
      members.map((name) => joinClassic(name)),
      fc.tuple(members, fc.nat(2)).map(([name, n]) => joinInstance(`${name}${n}`, name)),
      members.map((name) => leave(name)),
      fc.tuple(members, fc.nat(4)).map(([name, partition]) => alive(name, p(partition))),
      members.map((name) => progress(name, null)),
      fc.nat(4).map((partition) => drained(partition)),
      fc
        .tuple(members, fc.nat(5), fc.array(members, { maxLength: 4 }))
        .map(([name, n, owners]) => assign(name, n, ...owners)),
      fc.tuple(fc.nat(5), topics).map(([count, topicId]) => topic(count, topicId)),
      fc.tuple(fc.boolean(), topics).map(([held, topicId]) => hold(held, topicId)),
      fc.constantFrom(tick, tick, tick, remove),
    );
    const inputs = fc.array(input, { maxLength: 40, size: 'max' });
    fc.assert(
      fc.property(inputs, fc.constantFrom(0, 10_000), members, (some, gatherMs, idle) => {
        const scene = new Scene({ gatherMs });
        scene.step(topic(4), topic(2, 2));
        scene.busySinceMs.set(id(idle), 0);
        for (const one of some) {
          if (one.type === 'tick') scene.nowMs = Math.max(scene.nowMs, scene.group.nextDeadlineMs() ?? 0);
          const from = scene.group.state();
          scene.step(one);
          expect(table[from][one.type][scene.group.state()], `${from} by ${one.type}`).not.toBe('never');
        }
      }),
      property(1_000),
    );
  });
});
