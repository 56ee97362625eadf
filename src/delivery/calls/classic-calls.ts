import type { MemberId, PartitionRef } from '../../coordinator/group.ts';
import { Rejection } from '../../errors/rejection.ts';
import { limits } from '../../limits/limits.ts';
import type {
  AssignmentTask,
  HeartbeatCommand,
  HeartbeatOutcome,
  JoinGroupCommand,
  JoinGroupOutcome,
  SyncGroupCommand,
  SyncGroupOutcome,
} from '../ports/calls.ts';
import type { ConsumerGroup } from '../groups/consumer-group.ts';
import type { GroupContext } from '../groups/context.ts';
import type { Entrance } from '../groups/entrance.ts';
import type { Groups } from '../groups/groups.ts';
import { refuseIfUnsure } from '../dispatch/not-owner.ts';

/** The calls of members that drive their membership themselves: JoinGroup, SyncGroup, Heartbeat, LeaveGroup. */
export class ClassicCalls {
  readonly #groups: Groups;
  readonly #entrance: Entrance;
  readonly #context: GroupContext;

  constructor(groups: Groups, entrance: Entrance, context: GroupContext) {
    this.#groups = groups;
    this.#entrance = entrance;
    this.#context = context;
  }

  async join(host: string, command: JoinGroupCommand): Promise<JoinGroupOutcome> {
    const { sessionTimeoutMs, rebalanceTimeoutMs, assignor, clientAssignors, metadata } = command;
    const wishes = {
      kind: 'CLASSIC',
      host,
      sessionTimeoutMs,
      rebalanceTimeoutMs,
      assignor,
      clientAssignors,
      metadata,
    } as const;
    const { group, member } = await this.#entrance.enter(command, wishes, true);
    const row = group.machine.member(member.id);
    return {
      memberId: member.id,
      generation: group.generation,
      heartbeatIntervalMs: limits.heartbeatIntervalMs,
      sessionTimeoutMs: row?.sessionTimeoutMs ?? sessionTimeoutMs,
      maxPollIntervalMs: row?.maxPollIntervalMs ?? command.maxPollIntervalMs,
      leaderId: group.machine.leader,
      assignor: group.machine.assignor,
      task: planWanted(group, member.id) ? taskOf(group) : null,
    };
  }

  async sync(command: SyncGroupCommand): Promise<SyncGroupOutcome> {
    const group = this.#groups.get(command.group);
    const member = group.member(command.memberId);
    group.alive(command.memberId);
    const { knownGeneration, plan } = command;
    if (plan !== null) await group.assign(member.id, plan.generation, plan.members);
    const isNews = (): boolean =>
      knownGeneration === null ||
      group.generation > knownGeneration ||
      member.assignmentVersion !== member.syncedVersion;
    const ready = (): boolean => !group.members.has(member.id) || (!group.machine.awaitsPlan && isNews());
    if (!(await group.watch(ready, command.waitMs, command.signal))) {
      throw new Rejection('SYNC_TIMEOUT', `the assignment of generation ${group.generation} did not change in time`, {
        metadata: { generation: String(group.generation) },
      });
    }
    group.member(command.memberId);
    member.syncedVersion = member.assignmentVersion;
    return { generation: group.generation, partitions: member.partitions(), revoking: member.revoking() };
  }

  heartbeat(command: HeartbeatCommand): HeartbeatOutcome {
    const group = this.#groups.get(command.group);
    const member = group.member(command.memberId);
    this.#context.counts.heartbeats++;
    // The sign of life counts all the same: if this broker turns out to be the owner still, nobody has lost a session.
    group.alive(command.memberId, givenBack(group, command));
    refuseIfUnsure(this.#context);
    return {
      generation: group.generation,
      heartbeatIntervalMs: limits.heartbeatIntervalMs,
      revoking: member.revoking(),
      planWanted: planWanted(group, member.id),
    };
  }

  async leave(groupName: string, memberId: MemberId): Promise<void> {
    const group = this.#groups.get(groupName);
    group.member(memberId);
    await group.leave(memberId, 'LEFT');
  }
}

/** The partitions that a heartbeat gives back. The ones that the member got later than it knows are not among them: the call is late. */
function givenBack(group: ConsumerGroup, { revoked, generation }: HeartbeatCommand): PartitionRef[] {
  return group.refs(revoked).filter((ref) => {
    const holder = group.machine.holder(ref);
    return generation !== null && holder !== undefined && holder.sinceGeneration <= generation;
  });
}

/** Whether the member is the leader, and has to say who gets what in the generation that it knows by now. */
function planWanted({ machine, generation }: ConsumerGroup, memberId: MemberId): boolean {
  return machine.leader === memberId && machine.awaitsPlan && !machine.preparing && generation === machine.generation;
}

function taskOf(group: ConsumerGroup): AssignmentTask {
  const names = new Map(Array.from(group.subscriptions.values(), ({ row, topicName }) => [row.topicId, topicName]));
  const rows = group.machine.members().filter(({ memberId }) => !group.machine.isStalled(memberId));
  return {
    members: rows.map(({ memberId, clientId, instanceId, topicIds, metadata }) => {
      return { memberId, clientId, instanceId, topics: topicIds.flatMap((id) => names.get(id) ?? []), metadata };
    }),
    topics: Array.from(group.subscriptions.values(), ({ topicName, partitions }) => ({
      topic: topicName,
      partitions,
    })),
    current: rows.map(({ memberId }) => ({ memberId, partitions: group.members.get(memberId)?.partitions() ?? [] })),
  };
}
