import type { GroupEffect, GroupInput, PartitionRef } from '../../src/coordinator/group.ts';
import type { MemberRow, RebalanceRow } from '../../src/coordinator/snapshot.ts';
import { CheckedScene } from './invariants.ts';
import { byPartition, id, key, topic, partitionsOf, type GroupOptions } from './scene.ts';

/**
 * A scene that writes down what happens in it: the inputs of each step, what came of them, and the
 * group after it.
 */
export class Story {
  readonly #scene: CheckedScene;
  #text: string;

  constructor(title: string, options: GroupOptions = {}) {
    this.#scene = new CheckedScene(options);
    this.#text = `${title}\n`;
  }

  /** At so many milliseconds from the beginning these inputs come in one step. */
  at(ms: number, ...inputs: GroupInput[]): this {
    this.#scene.nowMs = ms;
    const asked = this.#scene.asked();
    const heading = [...asked, ...inputs].map(describeInput).join(', ') || 'nothing';
    this.#tell(`${ms} ms: ${heading}`, this.#scene.step(...inputs));
    return this;
  }

  /** From now on the member acks nothing of what it has. */
  idle(ms: number, name: string): this {
    this.#scene.busySinceMs.set(id(name), ms);
    this.#text += `\n${ms} ms: ${name} stops acking\n`;
    return this;
  }

  works(name: string): this {
    this.#scene.busySinceMs.delete(id(name));
    return this;
  }

  /** The broker dies, and another one takes the group over. */
  takeOver(ms: number): this {
    this.#scene.nowMs = ms;
    this.#scene.takeOver();
    const topics = Array.from(this.#scene.topics, ([topicId, partitions]) => topic(partitions, topicId));
    this.#tell(`${ms} ms: taken over by another broker; ${topics.map(describeInput).join(', ')}`, this.#scene.step());
    return this;
  }

  text(): string {
    return this.#text;
  }

  #tell(heading: string, effects: readonly GroupEffect[]): void {
    const { group } = this.#scene;
    const members = group.members().map(({ memberId }) => {
      const held = partitionsOf(group, memberId).map((ref) => {
        const holder = group.holder(ref);
        return `${key(ref)}@${holder?.sinceGeneration}${holder?.revoking === true ? '!' : ''}`;
      });
      return `    ${memberId}${group.isStalled(memberId) ? ' (stalled)' : ''}: ${held.join(' ') || '-'}`;
    });
    this.#text += `\n${heading}\n`;
    for (const line of effects.flatMap(describeEffect)) this.#text += `  -> ${line}\n`;
    const awaited = group.awaitsPlan ? `, awaits the plan of ${group.leader}` : '';
    this.#text += `  ${group.state()}, generation ${group.generation}${awaited}\n`;
    for (const line of members) this.#text += `${line}\n`;
  }
}

function describeInput(input: GroupInput): string {
  switch (input.type) {
    case 'join':
      return `join ${describeMember(input.member)}`;
    case 'leave':
      return `leave ${input.memberId} ${input.reason}`;
    case 'alive':
      return `alive ${input.memberId}${input.revoked.length > 0 ? ` revoked ${list(input.revoked)}` : ''}`;
    case 'progress':
      return `progress ${input.memberId} ${input.busySinceMs === null ? 'has nothing to ack' : `busy since ${input.busySinceMs} ms`}`;
    case 'drained':
      return `drained ${key(input.partition)}`;
    case 'assign': {
      const plan = input.plan.map((one) => `${key(one)} to ${one.memberId}`).join(' ');
      return `assign by ${input.memberId} for generation ${input.generation}: ${plan}`;
    }
    case 'topic':
      return `topic ${input.topicId} has ${input.partitions} partitions`;
    case 'hold':
      return `topic ${input.topicId} is ${input.held ? 'withheld' : 'given out again'}`;
    case 'delete':
      return 'delete';
    case 'tick':
      return 'tick';
  }
}

function describeMember({ memberId, instanceId, kind, assignor }: Omit<MemberRow, 'joinSeq'>): string {
  const instance = instanceId === null ? '' : ` of instance ${instanceId}`;
  const how = kind === 'CLASSIC' ? ' by JoinGroup' : '';
  return `${memberId}${instance}${how}${assignor === 'sticky' ? '' : ` with ${assignor}`}`;
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
    case 'refused':
      return [`refused ${describeInput(effect.input)}: ${effect.reason}, ${effect.message}`];
    case 'replaced':
      return [`replaced ${effect.oldMemberId} by ${effect.memberId}`];
    case 'assigned':
      return [`assigned ${effect.memberId} generation ${effect.generation}: ${list(effect.added)}`];
    case 'revoking':
      return [
        `revoking ${effect.memberId} generation ${effect.generation}: ${list(effect.partitions)} until ${effect.deadlineMs} ms`,
      ];
    case 'revoked':
      return [`revoked ${effect.memberId}${effect.stalled ? ' (stalled)' : ''}: ${list(effect.partitions)}`];
    case 'removed':
      return [`removed ${effect.memberId}: ${effect.reason}`];
    case 'assignorFailed':
      return [`assignor failed: ${effect.message}`];
    case 'rebalanced':
      return [describeRebalance(effect.rebalance)];
  }
}

function describeRebalance(rebalance: RebalanceRow): string {
  const { generation, causes, durationMs, assignedCount, revokedCount, completed } = rebalance;
  const why = causes.map(({ reason, memberId, count }) =>
    `${reason} ${memberId ?? ''}${count > 1 ? ` x${count}` : ''}`.trim(),
  );
  const over = completed ? 'rebalanced' : 'rebalance cut short,';
  return `${over} generation ${generation} after ${durationMs} ms for ${why.join(', ')}: ${assignedCount} given, ${revokedCount} taken`;
}

function list(refs: readonly PartitionRef[]): string {
  return [...refs].sort(byPartition).map(key).join(' ');
}
