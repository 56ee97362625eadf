import { readFileSync, writeFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import type { GroupEffect, GroupInput, PartitionRef } from '../../src/coordinator/group.ts';
import { CheckedScene } from './invariants.ts';
import { alive, byPartition, drained, join, joinByStream, key, leave, tick, topic } from './scene.ts';

/**
 * Stories that a reviewer should read, in golden/*.txt: the inputs of each step, what came of them, and the group after
 * it. `UPDATE_GOLDEN=1 npm test` writes them anew; read the difference before you commit it.
 */
class Story {
  readonly #scene = new CheckedScene();
  #text: string;

  constructor(title: string) {
    this.#text = `${title}\n`;
  }

  /** At so many milliseconds from the beginning these inputs come in one step. */
  at(ms: number, ...inputs: GroupInput[]): this {
    this.#scene.nowMs = ms;
    this.#tell(`${ms} ms: ${inputs.map(describeInput).join(', ') || 'nothing'}`, this.#scene.step(...inputs));
    return this;
  }

  /** The broker dies, and another one takes the group over. */
  takeOver(ms: number): this {
    this.#scene.nowMs = ms;
    this.#scene.takeOver();
    const topics = Array.from(this.#scene.topics, ([topicId, partitions]) => topic(partitions, topicId));
    this.#tell(
      `${ms} ms: taken over by another broker; ${topics.map(describeInput).join(', ')}`,
      this.#scene.step(...topics),
    );
    return this;
  }

  text(): string {
    return this.#text;
  }

  #tell(heading: string, effects: readonly GroupEffect[]): void {
    const { group } = this.#scene;
    const members = group.members().map(({ memberId }) => {
      const held = group.partitionsOf(memberId).map((ref) => {
        const holder = group.holder(ref);
        return `${key(ref)}@${holder?.sinceGeneration}${holder?.revoking === true ? '!' : ''}`;
      });
      return `    ${memberId}: ${held.join(' ') || '-'}`;
    });
    this.#text += `\n${heading}\n`;
    for (const line of effects.flatMap(describeEffect)) this.#text += `  -> ${line}\n`;
    this.#text += `  ${group.state()}, generation ${group.generation}\n${members.map((line) => `${line}\n`).join('')}`;
  }
}

function describeInput(input: GroupInput): string {
  switch (input.type) {
    case 'join':
      return `join ${input.member.memberId}`;
    case 'leave':
      return `leave ${input.memberId} ${input.reason}`;
    case 'alive':
      return `alive ${input.memberId}${input.revoked.length > 0 ? ` revoked ${list(input.revoked)}` : ''}`;
    case 'drained':
      return `drained ${key(input.partition)}`;
    case 'topic':
      return `topic ${input.topicId} has ${input.partitions} partitions`;
    case 'tick':
      return 'tick';
  }
}

function describeEffect(effect: GroupEffect): string[] {
  switch (effect.type) {
    case 'persist': {
      const { generation, putMembers, removedMembers, putAssignments, removedAssignments } = effect.change;
      return [
        `persist generation ${generation}`,
        ...putMembers.map((row) => `  member ${row.memberId}, joined as number ${row.joinSeq}`),
        ...removedMembers.map((memberId) => `  no member ${memberId}`),
        ...[...putAssignments]
          .sort(byPartition)
          .map((row) => `  ${key(row)} to ${row.memberId}@${row.sinceGeneration}`),
        ...removedAssignments.map((ref) => `  ${key(ref)} to nobody`),
      ];
    }
    case 'assigned':
      return [`assigned ${effect.memberId} generation ${effect.generation}: ${list(effect.added)}`];
    case 'revoking':
      return [
        `revoking ${effect.memberId} generation ${effect.generation}: ${list(effect.partitions)} until ${effect.deadlineMs} ms`,
      ];
    case 'revoked':
      return [`revoked ${effect.memberId}: ${list(effect.partitions)}`];
    case 'removed':
      return [`removed ${effect.memberId}: ${effect.reason}`];
  }
}

function list(refs: readonly PartitionRef[]): string {
  return [...refs].sort(byPartition).map(key).join(' ');
}

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
};

test.each(Object.keys(stories))('the story of %s reads as it did', (name) => {
  const file = new URL(`golden/${name}.txt`, import.meta.url);
  const told = stories[name]?.().text() ?? '';
  if (process.env['UPDATE_GOLDEN'] !== undefined) writeFileSync(file, told);
  expect(told).toBe(readFileSync(file, 'utf8'));
});
