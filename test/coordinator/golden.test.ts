import { readFileSync, writeFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import type { Assignor } from '../../src/coordinator/assignors/assignor.ts';
import { builtInAssignors } from '../../src/coordinator/assignors/built-in.ts';
import { range } from '../../src/coordinator/assignors/range.ts';
import {
  alive,
  assign,
  drained,
  hold,
  join,
  joinByStream,
  joinClassic,
  joinInstance,
  leave,
  progress,
  remove,
  tick,
  topic,
} from './scene.ts';
import { Story } from './story.ts';

/** Fails for three members. */
const choosy: Assignor = (input) => {
  if (input.members.length === 3) throw new Error('three are too many');
  return range(input);
};

/**
 * Stories that a reviewer should read, in golden/*.txt: the inputs of each step, what came of them,
 * and the group after it. `UPDATE_GOLDEN=1 npm test` rewrites them; read the difference before
 * you commit it.
 */
const stories: Record<string, () => Story> = {
  join: () =>
    new Story('Two members join close together, then a third: what is idle moves at once, the rest stays.')
      .at(0, topic(6), joinByStream('a'), joinByStream('b'))
      .at(1_000, joinByStream('c'))
      .at(1_001, drained(4), drained(5)),
  leave: () =>
    new Story('A member leaves: its partitions go to the others at once.')
      .at(0, topic(6), joinByStream('a'), joinByStream('b'), joinByStream('c'))
      .at(1_000, leave('b'))
      .at(2_000, leave('a'))
      .at(3_000, leave('c')),
  crash: () =>
    new Story('One member loses its stream, the other says nothing for its session timeout.')
      .at(0, topic(3), join('a'), joinByStream('b'), join('c', [1], { sessionTimeoutMs: 6_000 }))
      .at(1_000, leave('b', 'STREAM_LOST'))
      .at(5_000, alive('c'))
      .at(6_000, tick)
      .at(11_000, tick),
  'slow-revoke': () =>
    new Story('A member is slow to give back: one partition it confirms, the other is taken at the deadline.')
      .at(0, topic(4), join('a', [1], { rebalanceTimeoutMs: 10_000 }))
      .at(1_000, join('b'))
      .at(4_000, alive('a'))
      .at(5_000, alive('a', { topicId: 1, partition: 2 }))
      .at(11_000, tick)
      .at(11_500, drained(3)),
  'second-thoughts': () =>
    new Story('The new member leaves before it got anything: who was asked to give back keeps it after all.')
      .at(0, topic(4), join('a'))
      .at(1_000, join('b'))
      .at(1_500, drained(3))
      .at(2_000, leave('b'))
      .at(2_001, drained(2)),
  takeover: () =>
    new Story('A broker dies while a partition moves: members with a session keep theirs, streams are gone.')
      .at(0, topic(6), join('a'), join('b'))
      .at(1_000, joinByStream('c'), join('d'))
      .at(1_500, drained(4))
      .takeOver(20_000)
      .at(21_000, join('a'))
      .at(22_000, alive('b'))
      .at(50_000, tick)
      .at(51_000, tick),
  flap: () =>
    new Story('A network flap shorter than the session timeout: the member resumes, and nothing is written.')
      .at(0, topic(4), join('a'), join('b'))
      .at(20_000, alive('b'))
      .at(29_000, join('a'))
      .at(30_000, tick)
      .at(49_000, alive('b')),
  'static-restart': () =>
    new Story(
      'A member of an instance restarts: its next process goes on with what it held, and nobody else hears of it.',
    )
      .at(0, topic(4), joinInstance('a1', 'a'), join('b'))
      .at(10_000, alive('b'))
      .at(20_000, joinInstance('a2', 'a'), alive('b'))
      .at(20_001, alive('a1'), alive('a2'))
      .at(40_000, alive('b'), leave('a2')),
  zombie: () =>
    new Story(
      'A member that was given up comes back, and so does a process whose instance has a newer one: both come too late.',
    )
      .at(0, topic(4), join('a', [1], { sessionTimeoutMs: 6_000 }), joinInstance('b1', 'b'))
      .at(6_000, alive('b1'))
      .at(7_000, alive('a', { topicId: 1, partition: 0 }), progress('a', null))
      .at(8_000, joinInstance('b2', 'b'))
      .at(9_000, alive('b1', { topicId: 1, partition: 1 }), leave('b1'))
      .at(10_000, join('a', [1], { sessionTimeoutMs: 6_000 })),
  'takeover-of-a-move': () =>
    new Story('A broker dies while partitions move: the move is begun again, and what had arrived stays.')
      .at(0, topic(4), join('a'))
      .at(1_000, join('b'))
      .at(1_500, drained(3))
      .takeOver(10_000)
      .at(10_500, drained(2)),
  'takeover-while-gathering': () =>
    new Story('A broker dies with changes gathered that it told nobody: they are as if they had never come.', {
      gatherMs: 3_000,
    })
      .at(0, topic(4), join('a'))
      .at(1_000, join('b'))
      .at(1_500, joinInstance('c1', 'c'))
      .takeOver(2_000)
      .at(2_500, join('b')),
  'classic-and-streaming': () =>
    new Story('Members that heartbeat and members that stream share one group, and its assignment.')
      .at(0, topic(4), joinClassic('c', []))
      .at(1_000, joinByStream('s'))
      .at(1_500, drained(2))
      .at(2_000, alive('c', { topicId: 1, partition: 3 }))
      .at(3_000, leave('s', 'STREAM_LOST'))
      .at(32_000, tick),
  'client-leader': () =>
    new Story('The members assign by themselves: plans that are wrong or late, and a leader that makes none.')
      .at(0, topic(2), joinClassic('a', ['even'], { rebalanceTimeoutMs: 5_000, sessionTimeoutMs: 60_000 }))
      .at(100, assign('a', 1, 'a', 'a'))
      .at(1_000, joinClassic('b', ['odd', 'even']), join('s'))
      .at(1_100, assign('b', 2, 'b', 'b'), assign('a', 1, 'a', 'a'), assign('a', 2, 'a'))
      .at(1_200, assign('a', 2, 'a', 'b'))
      .at(1_300, drained(1))
      .at(2_000, topic(3), alive('b'))
      .at(7_000, tick)
      .at(7_100, assign('b', 4, 'b', 'b', 'b')),
  stalled: () =>
    new Story('A member heartbeats and acks nothing: it loses what it has, and gets its share when it works again.')
      .at(0, topic(4), join('a', [1], { maxPollIntervalMs: 20_000 }), join('b'))
      .idle(5_000, 'a')
      .at(15_000, alive('a'), alive('b'))
      .at(25_000, alive('a'), alive('b'))
      .at(26_000, drained(0))
      .works('a')
      .at(30_000, progress('a', 30_000))
      .at(30_500, drained(0), drained(2)),
  gathered: () =>
    new Story('Ten members come within a second: the first is served at once, the others in one rebalance.', {
      gatherMs: 1_000,
    })
      .at(0, topic(10), joinByStream('m0'))
      .at(100, ...['m1', 'm2', 'm3', 'm4'].map((name) => joinByStream(name)))
      .at(200, ...['m5', 'm6', 'm7', 'm8'].map((name) => joinByStream(name)), leave('m1'))
      .at(300, joinByStream('m9'), joinClassic('x'))
      .at(1_000, tick)
      .at(1_001, ...Array.from({ length: 10 }, (_, partition) => drained(partition))),
  'failing-assignor': () =>
    new Story('An assignor fails: whoever joined is refused, and where nobody did sticky decides.', {
      assignors: new Map([...builtInAssignors, ['choosy', choosy]]),
    })
      .at(0, topic(6), join('a', [1], { assignor: 'choosy' }), join('b'))
      .at(1_000, join('c'))
      .at(2_000, join('c'), join('d'))
      .at(3_000, ...[2, 3, 4, 5].map((partition) => drained(partition)))
      .at(4_000, leave('d')),
  'offsets-reset': () =>
    new Story(
      'A topic is withheld while its offsets are reset: everybody gives it back, and it comes again in a new generation.',
    )
      .at(0, topic(2), topic(1, 2), join('a', [1, 2]), join('b', [1, 2]))
      .at(1_000, hold(true))
      .at(1_100, drained(0), drained(1))
      .at(2_000, hold(false))
      .at(3_000, remove)
      .at(3_100, leave('a'), leave('b'), remove)
      .at(3_200, join('c')),
};

test.each(Object.keys(stories))('the story of %s reads as it did', (name) => {
  const file = new URL(`golden/${name}.txt`, import.meta.url);
  const told = stories[name]?.().text() ?? '';
  if (process.env['UPDATE_GOLDEN'] !== undefined) writeFileSync(file, told);
  expect(told).toBe(readFileSync(file, 'utf8'));
});
