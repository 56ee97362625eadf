import type { AssignorName, MemberId, MemberRow } from '../../coordinator/group.ts';
import { groupMembersMax, groupTopicsMax, subscriptionExists } from '../../errors/rejections/groups.ts';
import { assignorUnknown, instanceFenced, memberFenced } from '../../errors/rejections/members.ts';
import type { Rejection } from '../../errors/rejections/rejection.ts';
import { limits } from '../../limits/limits.ts';
import type { EnterCommand } from '../ports/membership.ts';
import type { CreateSubscriptionCommand } from '../ports/subscriptions.ts';
import type { ConsumerGroup } from './consumer-group.ts';
import type { GroupContext } from './context.ts';
import type { Groups } from './groups.ts';
import { refuseCancelled } from '../subscriptions/cancelled.ts';
import type { ActiveSubscription } from '../subscriptions/subscription.ts';
import type { Member } from '../dispatch/member.ts';
import { refuseUnlessMayGrow } from '../kept/growth.ts';
import { refuseIfUnsure } from '../dispatch/not-owner.ts';

/** The options of a member that differ by the kind of call. */
type MemberOptions = Omit<
  MemberRow,
  'memberId' | 'clientId' | 'instanceId' | 'maxPollIntervalMs' | 'topicIds' | 'joinSeq'
>;

type JoiningRow = Omit<MemberRow, 'joinSeq'>;

interface Entered {
  readonly group: ConsumerGroup;
  readonly member: Member;
}

interface Created {
  readonly group: ConsumerGroup;
  readonly subscription: ActiveSubscription;
}

/** Finds the member that a call names, or creates one, with its group and its subscriptions. */
export class Admission {
  readonly #groups: Groups;
  readonly #context: GroupContext;
  readonly #membersMax: number;

  constructor(groups: Groups, context: GroupContext, membersMax: number) {
    this.#groups = groups;
    this.#context = context;
    this.#membersMax = membersMax;
  }

  /**
   * @param rejoin an existing member gets the options of this call too, not only its topics.
   * @throws Rejection
   */
  async enter(command: EnterCommand, options: MemberOptions, rejoin = false): Promise<Entered> {
    this.#refuseUnknownAssignor(options.assignor);
    const { memberId } = command;
    // The sign of life counts even if this broker may have been replaced. If not, the session goes
    // on.
    if (memberId !== null) this.#groups.inMemory.find(command.group)?.alive(memberId);
    refuseIfUnsure(this.#context);
    if (memberId !== null) return this.#return(command, memberId, rejoin ? options : null);
    const topicIds = this.#groups.subscriptions.readableTopicIds(command);
    const { clientId, instanceId, maxPollIntervalMs } = command;
    const id = `${clientId}-${this.#context.random.uuid()}` as MemberId;
    const row = { ...options, memberId: id, clientId, instanceId, maxPollIntervalMs, topicIds };
    const group = this.#groups.inMemory.find(command.group);
    // A new process of an instance takes the place of the old one.
    const from = (instanceId === null ? undefined : group?.rowOfInstance(instanceId)) ?? null;
    const reserved = this.#groups.reservations.join(command.group, topicIds, { from, to: row });
    return this.#groups
      .enter(command.group, (group) => this.#join(group, command, row))
      .finally(() => {
        reserved.release();
      });
  }

  async #join(group: ConsumerGroup, command: EnterCommand, row: JoiningRow): Promise<Entered> {
    const { instanceId } = command;
    if (instanceId === null || group.rowOfInstance(instanceId) === undefined) this.#refuseIfFull(group);
    await this.#subscribe(group, command, row.topicIds);
    return { group, member: await group.join(row, command.reply) };
  }

  /** @throws Rejection SUBSCRIPTION_EXISTS, GROUP_TOPICS_MAX, TOPIC_NOT_FOUND, BROKER_FULL */
  async createSubscription(command: CreateSubscriptionCommand): Promise<Created> {
    const { group: name, topic, start, deadAfterMs } = command;
    const topicId = this.#groups.subscriptions.topicId(topic);
    const known = this.#groups.inMemory.find(name)?.subscriptions.has(topicId) === true;
    const reserved = this.#groups.reservations.join(name, known ? [] : [topicId]);
    const create = async (group: ConsumerGroup): Promise<Created> => {
      if (group.subscriptions.has(this.#groups.subscriptions.topicId(topic)))
        throw subscriptionExists({ group: name, topic });
      if (group.subscriptions.size >= limits.groupTopicsMax) {
        throw groupTopicsMax({ group: name, groupTopicsMax: limits.groupTopicsMax });
      }
      const subscription = await this.#groups.subscriptions.demand(group, topic, start, deadAfterMs);
      await group.settled();
      return { group, subscription };
    };
    return this.#groups.enter(name, create).finally(() => {
      reserved.release();
    });
  }

  async #return(command: EnterCommand, memberId: MemberId, options: MemberOptions | null): Promise<Entered> {
    const group = this.#groups.inMemory.find(command.group);
    const row = group?.row(memberId);
    if (group === undefined || row === undefined) throw await this.#fenced(group, memberId, command.instanceId);
    const topicIds = this.#groups.subscriptions.readableTopicIds(command);
    return this.#groups.occupy(group, async () => {
      // The call would subscribe the group again, and the member would not learn of the cancel.
      refuseCancelled(group, this.#context, memberId, topicIds.length === 0 ? row.topicIds : topicIds);
      const to = changed(row, command, topicIds.length === 0 ? row.topicIds : topicIds, options);
      await this.#change(group, command, topicIds, { from: row, to });
      const member = group.member(memberId);
      // Subscribe and Pull ask for records, so the member works. A JoinGroup asks for none.
      if (options === null) group.worked(member);
      return { group, member };
    });
  }

  /** Changes the member as the call wants it. A call that changes nothing is a sign of life. */
  async #change(
    group: ConsumerGroup,
    command: EnterCommand,
    topicIds: readonly number[],
    { from, to }: { readonly from: MemberRow; readonly to: JoiningRow | null },
  ): Promise<void> {
    const added = topicIds.filter((topicId) => !from.topicIds.includes(topicId) || !group.subscriptions.has(topicId));
    if (to === null && added.length === 0) {
      group.alive(from.memberId);
      return;
    }
    const reserved = this.#groups.reservations.join(group.name, added, { from, to: to ?? from });
    try {
      await this.#subscribe(group, command, topicIds);
      if (to === null) group.alive(from.memberId);
      else await group.join(to);
    } finally {
      reserved.release();
    }
  }

  async #subscribe(group: ConsumerGroup, command: EnterCommand, topicIds: readonly number[]): Promise<void> {
    const added = topicIds.filter((topicId) => !group.subscriptions.has(topicId)).length;
    if (added > 0 && group.subscriptions.size + added > limits.groupTopicsMax) {
      throw groupTopicsMax({ group: group.name, groupTopicsMax: limits.groupTopicsMax });
    }
    await this.#groups.subscriptions.demandAll(group, command.topics, command.start);
  }

  /**
   * A process stops for good at INSTANCE_FENCED. Only the owner may therefore send it, and only
   * when the other process has joined durably.
   */
  async #fenced(group: ConsumerGroup | undefined, memberId: MemberId, instanceId: string | null): Promise<Rejection> {
    this.#context.counts.fencedCalls++;
    if (group === undefined || instanceId === null) return memberFenced({ memberId });
    if (group.rowOfInstance(instanceId) === undefined) return memberFenced({ memberId });
    await group.settled();
    await this.#context.rounds.proven();
    return instanceFenced({ memberId });
  }

  #refuseIfFull(group: ConsumerGroup): void {
    refuseUnlessMayGrow(this.#context.mayGrow);
    if (group.memberCount < this.#membersMax) return;
    throw groupMembersMax({ group: group.name, groupMembersMax: this.#membersMax });
  }

  /** Comes first, so that a call with an unknown assignor does not create a group. */
  #refuseUnknownAssignor(name: AssignorName): void {
    const { assignors } = this.#context;
    if (assignors.has(name)) return;
    throw assignorUnknown({ assignorName: name, known: assignors.keys() });
  }
}

/** The member as the call wants it; null if it is so already. */
function changed(
  row: MemberRow,
  command: EnterCommand,
  topicIds: readonly number[],
  options: MemberOptions | null,
): JoiningRow | null {
  const { memberId, kind } = row;
  const { clientId, maxPollIntervalMs } = command;
  const instanceId = command.instanceId ?? row.instanceId;
  if (options !== null) return { ...options, kind, memberId, clientId, instanceId, maxPollIntervalMs, topicIds };
  if (instanceId === row.instanceId && sameSet(topicIds, row.topicIds)) return null;
  return { ...row, instanceId, topicIds };
}

function sameSet(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((one) => b.includes(one));
}
