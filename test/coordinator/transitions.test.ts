import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { GroupInput, GroupState } from '../../src/coordinator/group.ts';
import { property } from './property.ts';
import { alive, drained, join, leave, Scene, tick, topic } from './scene.ts';

type InputType = GroupInput['type'];
/** Brings a new scene into the state of the row, and returns the input that leads to the state of the column. */
type Example = (scene: Scene) => GroupInput;
type Cell = Readonly<Record<GroupState, Example | 'never'>>;

const range = { assignor: 'range' } as const;

/** Single inputs while no deadline has passed; `tick` stands for deadlines. A missing cell does not compile. */
const table: Readonly<Record<GroupState, Readonly<Record<InputType, Cell>>>> = {
  EMPTY: {
    join: { EMPTY: 'never', RECONCILING: 'never', STABLE: start([topic(4)], join('a')) },
    leave: { EMPTY: start([topic(4)], leave('a')), RECONCILING: 'never', STABLE: 'never' },
    alive: { EMPTY: start([topic(4)], alive('a')), RECONCILING: 'never', STABLE: 'never' },
    drained: { EMPTY: start([topic(4)], drained(0)), RECONCILING: 'never', STABLE: 'never' },
    topic: { EMPTY: start([topic(4)], topic(5)), RECONCILING: 'never', STABLE: 'never' },
    tick: { EMPTY: start([topic(4)], tick), RECONCILING: 'never', STABLE: 'never' },
  },
  RECONCILING: {
    join: {
      EMPTY: 'never',
      RECONCILING: start([topic(4), join('a')], [join('b')], join('c')),
      // The new member reads another topic after all.
      STABLE: start([topic(4), join('a')], [join('b')], join('b', [2])),
    },
    leave: {
      // The only member reads one topic less and has not given it back yet.
      EMPTY: start([topic(4), topic(2, 2), join('a', [1, 2])], [join('a', [1])], leave('a')),
      RECONCILING: start([topic(4), join('a')], [join('b'), join('c')], leave('c')),
      STABLE: start([topic(4), join('a')], [join('b')], leave('b')),
    },
    alive: {
      EMPTY: 'never',
      RECONCILING: start([topic(4), join('a')], [join('b')], alive('a')),
      STABLE: start(
        [topic(4), join('a')],
        [join('b')],
        alive('a', { topicId: 1, partition: 2 }, { topicId: 1, partition: 3 }),
      ),
    },
    drained: {
      EMPTY: 'never',
      RECONCILING: start([topic(4), join('a')], [join('b')], drained(2)),
      STABLE: start([topic(4), join('a')], [join('b')], [drained(2)], drained(3)),
    },
    topic: {
      EMPTY: 'never',
      RECONCILING: start([topic(4), join('a')], [join('b')], topic(2, 2)),
      STABLE: start([topic(4), join('a')], [join('b')], topic(0)),
    },
    tick: {
      EMPTY: start([topic(4), join('a')], [join('b')], at(30_000)),
      RECONCILING: start([topic(4), join('a')], [join('b')], at(1)),
      STABLE: start([topic(4), join('a', [1], { rebalanceTimeoutMs: 1_000 })], [join('b')], at(1_000)),
    },
  },
  STABLE: {
    join: {
      EMPTY: 'never',
      RECONCILING: start([topic(4), join('a')], join('b')),
      STABLE: start([topic(4), join('a')], join('a')),
    },
    leave: {
      EMPTY: start([topic(4), join('a')], leave('a')),
      // Range cuts anew, and what b and c keep between them moves.
      RECONCILING: start([topic(4), join('a', [1], range), join('b', [1], range), join('c', [1], range)], leave('a')),
      STABLE: start([topic(4), join('a'), join('b')], leave('a')),
    },
    alive: { EMPTY: 'never', RECONCILING: 'never', STABLE: start([topic(4), join('a')], alive('a')) },
    drained: { EMPTY: 'never', RECONCILING: 'never', STABLE: start([topic(4), join('a')], drained(0)) },
    topic: {
      EMPTY: 'never',
      RECONCILING: start([topic(4), join('a', [1], range), join('b', [1], range)], topic(6)),
      STABLE: start([topic(4), join('a')], topic(6)),
    },
    tick: {
      EMPTY: start([topic(4), join('a')], at(30_000)),
      RECONCILING: start(
        [topic(4), join('a', [1], { ...range, sessionTimeoutMs: 6_000 }), join('b', [1], range), join('c', [1], range)],
        at(6_000),
      ),
      STABLE: start([topic(4), join('a')], at(29_999)),
    },
  },
};

/** Steps, all but the last bundles that come before; the last one is the input to look at. */
function start(...steps: [...(readonly GroupInput[])[], GroupInput | Example]): Example {
  return (scene) => {
    for (const inputs of steps.slice(0, -1) as GroupInput[][]) scene.step(...inputs);
    const last = steps.at(-1) as GroupInput | Example;
    return typeof last === 'function' ? last(scene) : last;
  };
}

/** A tick at that time. */
function at(ms: number): Example {
  return (scene) => {
    scene.nowMs = ms;
    return tick;
  };
}

const states = ['EMPTY', 'RECONCILING', 'STABLE'] as const;
const cells = states.flatMap((from) =>
  (Object.keys(table[from]) as InputType[]).flatMap((type) => states.map((to) => ({ from, type, to }))),
);

describe('the transition table', () => {
  test.each(cells.filter(({ from, type, to }) => table[from][type][to] !== 'never'))(
    '$from may become $to by $type',
    ({ from, type, to }) => {
      const scene = new Scene();
      const example = table[from][type][to] as Example;
      const input = example(scene);
      expect(scene.group.state()).toBe(from);
      expect(input.type).toBe(type);
      scene.step(input);
      expect(scene.group.state()).toBe(to);
    },
  );

  test('a transition that the table calls never does not happen', () => {
    const members = fc.constantFrom('a', 'b', 'c');
    const input = fc.oneof(
      fc
        .record({ name: members, topics: fc.subarray([1, 2], { minLength: 1 }), ranged: fc.boolean() })
        .map((m) => join(m.name, m.topics, m.ranged ? range : {})),
      members.map((name) => leave(name)),
      fc.tuple(members, fc.nat(4)).map(([name, partition]) => alive(name, { topicId: 1, partition })),
      fc.nat(4).map((partition) => drained(partition)),
      fc.tuple(fc.nat(5), fc.constantFrom(1, 2)).map(([count, topicId]) => topic(count, topicId)),
    );
    fc.assert(
      fc.property(fc.array(input, { maxLength: 30 }), (inputs) => {
        const scene = new Scene();
        for (const one of inputs) {
          const from = scene.group.state();
          scene.step(one);
          expect(table[from][one.type][scene.group.state()], `${from} by ${one.type}`).not.toBe('never');
        }
      }),
      property(300),
    );
  });
});
