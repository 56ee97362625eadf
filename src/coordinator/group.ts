import { memberFenced } from '../errors/rejections/members.ts';
import type { TaskRoom } from './agreement.ts';
import type { Assignor, AssignorName, Assignors } from './assignors/assignor.ts';
import { AssignorError } from './assignors/assignor-error.ts';
import { builtInAssignors } from './assignors/built-in.ts';
import { sticky } from './assignors/sticky.ts';
import { assignmentOf } from './client-plan.ts';
import { Holdings } from './holdings.ts';
import type { Member } from './member.ts';
import { Membership } from './membership.ts';
import { Rebalance } from './rebalance.ts';
import type { GroupSnapshot, MemberId, MemberRow, PartitionRef } from './snapshot.ts';
import type { GroupEffect, GroupInput, GroupState, Holder, RefusalReason } from './step.ts';
import { assignorInput, keepTargets, retarget, setTargets } from './target.ts';
import { Turn } from './turn.ts';

export type { AssignorName } from './assignors/assignor.ts';
export type { TaskRoom } from './agreement.ts';
export type * from './snapshot.ts';
export type * from './step.ts';

interface GroupOptions {
  readonly assignors?: Assignors;
  /** Changes within this time of the last rebalance are gathered into the next one. Default: 0. */
  readonly gatherMs?: number;
  /** Bounds what members tell their leader. Default: no bound. */
  readonly task?: TaskRoom;
}

const anyTask: TaskRoom = { bytesMax: Infinity, bytesOf: () => 0 };

/** The members assign by themselves, and the leader's plan for this generation has not arrived. */
interface AwaitedPlan {
  readonly leaderId: MemberId;
  readonly deadlineMs: number;
}

type Assign = Extract<GroupInput, { type: 'assign' }>;

/**
 * The coordinator of one consumer group. Deterministic, without I/O and without a clock. SPEC.md
 * beside it is its full description, with the test that enforces each invariant.
 *
 * ```
 *             join                              decided                      everything has arrived
 *   EMPTY ───────────▶ PREPARING_REBALANCE ──────────────▶ COMPLETING_REBALANCE ───────────▶ STABLE
 *    │ ▲                    ▲  changes are gathered            │  partitions move, or the        │
 *    │ │                    │                                  │  leader's plan is awaited       │
 *    │ └── the last member ─┴── join · leave · topic · hold ───┴── timeout · stall · progress ───┘
 *    └── delete ──▶ DEAD
 * ```
 *
 *  1. A partition has at most one holder, and the holder is a member.
 *  2. A partition leaves a live member only by `revoking`, unless to its new instance, or by a
 *     stall.
 *  3. A partition that stays is not touched: same holder, same sinceGeneration, no effect.
 *  4. While STABLE, each partition with a reader has the holder that the assignor or leader chose.
 *  5. The generation rises by one in a step that begins a rebalance, else not at all.
 *  6. A member that gets a partition a second time gets it with a later sinceGeneration.
 *  7. The durable state is exactly the sum of all `persist` effects.
 *  8. The effects alone show each holder and each partition that is being revoked.
 *  9. Signs of life touch nothing durable and cost the same in every group.
 */
export class Group {
  #generation: number;
  readonly #turn: Turn;
  readonly #holdings: Holdings;
  readonly #rebalance = new Rebalance();
  readonly #membership: Membership;
  readonly #assignors: Assignors;
  readonly #gatherMs: number;
  #rebalancedMs = -Infinity;
  /** Freshly loaded: no input has named the topics yet. */
  #fresh = true;
  #dead = false;
  #awaited: AwaitedPlan | null = null;
  /** A plan was accepted in this turn, and no partition has moved for it yet. */
  #planned = false;
  #refused: GroupEffect[] = [];
  readonly #rowNow = (memberId: MemberId): MemberRow | null => this.#find(memberId)?.row ?? null;

  /**
   * Takes over a loaded group. The first step must name every topic of the group. It removes
   * members without a session, because their streams died with the old broker.
   */
  constructor(snapshot: GroupSnapshot, nowMs: number, options: GroupOptions = {}) {
    this.#generation = snapshot.generation;
    this.#assignors = options.assignors ?? builtInAssignors;
    this.#gatherMs = options.gatherMs ?? 0;
    this.#turn = new Turn(snapshot.generation);
    this.#holdings = new Holdings(this.#turn);
    this.#membership = new Membership(this.#holdings, this.#rebalance, this.#turn, options.task ?? anyTask);
    for (const row of [...snapshot.members].sort((a, b) => a.joinSeq - b.joinSeq)) this.#membership.load(row, nowMs);
    for (const row of snapshot.assignments) {
      const member = this.#find(row.memberId);
      if (member === undefined) throw new Error(`an assignment names "${row.memberId}", which is not a member`);
      this.#holdings.load(row, member);
    }
    if (this.memberCount > 0) this.#rebalance.call('TAKEOVER', null, nowMs);
  }

  /**
   * Takes the inputs in order, ends overdue sessions, then rebalances once if called for and due.
   * Until then only refusals come out, and nothing is durable. A sign of life in the same step as
   * the end of its session counts, because the timer was early.
   */
  step(inputs: readonly GroupInput[], nowMs: number): GroupEffect[] {
    if (this.#fresh) this.#membership.removeStreamBound(nowMs);
    for (const input of inputs) this.#take(input, nowMs);
    if (this.#fresh) this.#holdings.dropUnnamed();
    if (nowMs >= this.#wakeMs()) this.#expire(nowMs);
    if (this.#rebalance.isCalledFor && this.#isDue(nowMs)) this.#balance(nowMs);
    // Apply the plan last: a member that it names may leave or be replaced later in the same step.
    else if (this.#planned && !this.preparing) this.#holdings.reconcile(nowMs);
    this.#fresh = false;
    const refused = this.#refused;
    if (refused.length > 0) this.#refused = [];
    if (this.preparing) return refused;
    this.#planned = false;
    this.#holdings.giveFreed(this.#generation);
    this.#settle(nowMs);
    const effects = this.#turn.finish(this.#generation, this.#rowNow);
    return refused.length === 0 ? effects : [...effects, ...refused];
  }

  /** No deadline is before this time; null: there is none. */
  nextDeadlineMs(): number | null {
    const wakeMs = Math.min(this.#wakeMs(), this.preparing ? this.#rebalancedMs + this.#gatherMs : Infinity);
    return wakeMs === Infinity ? null : wakeMs;
  }

  /** Members that lose their partitions in the next step, unless its inputs show `progress`. */
  overdue(nowMs: number): MemberId[] {
    if (nowMs < this.#membership.wakeMs) return [];
    return Array.from(this.#membership.roster)
      .filter(({ pollDeadlineMs }) => pollDeadlineMs <= nowMs)
      .map(({ row }) => row.memberId);
  }

  get generation(): number {
    return this.#generation;
  }

  /** Gathered changes wait for their rebalance. None of them is durable yet. */
  get preparing(): boolean {
    return this.#rebalance.isCalledFor && !this.#dead;
  }

  /** The rule in force: the members' own, or that of the member that joined first. */
  get assignor(): AssignorName {
    const { roster, agreement } = this.#membership;
    return agreement.rule ?? roster.first?.row.assignor ?? 'sticky';
  }

  /** The member that assigns the partitions of this group; null: the broker does. */
  get leader(): MemberId | null {
    const row = this.#membership.roster.first?.row;
    return row !== undefined && row.clientAssignors.length > 0 ? row.memberId : null;
  }

  /** Whether the leader's plan for this generation is still missing. */
  get awaitsPlan(): boolean {
    return this.#awaited !== null;
  }

  state(): GroupState {
    if (this.#dead) return 'DEAD';
    if (this.#membership.roster.size === 0) return 'EMPTY';
    if (this.preparing) return 'PREPARING_REBALANCE';
    return this.#awaited !== null || this.#holdings.isRevoking ? 'COMPLETING_REBALANCE' : 'STABLE';
  }

  member(memberId: MemberId): MemberRow | undefined {
    return this.#find(memberId)?.row;
  }

  /** The member that has joined with the instance id. */
  instance(instanceId: string): MemberRow | undefined {
    return this.#membership.roster.findInstance(instanceId)?.row;
  }

  get memberCount(): number {
    return this.#membership.roster.size;
  }

  /** In the order of joining. */
  members(): MemberRow[] {
    return Array.from(this.#membership.roster, (member) => member.row);
  }

  /** The member is stalled: it exceeded its max poll interval, and gets nothing for now. */
  isStalled(memberId: MemberId): boolean {
    return this.#find(memberId)?.stalled ?? false;
  }

  holder(ref: PartitionRef): Holder | undefined {
    const partition = this.#holdings.find(ref);
    if (partition === undefined || partition.holder === null) return undefined;
    const { holder, sinceGeneration, revokeDeadlineMs } = partition;
    return { memberId: holder.row.memberId, sinceGeneration, revoking: revokeDeadlineMs !== null };
  }

  /** The durable state once all changes so far are written. */
  snapshot(): GroupSnapshot {
    return { generation: this.#generation, members: this.members(), assignments: this.#holdings.rows() };
  }

  #find(memberId: MemberId): Member | undefined {
    return this.#membership.roster.find(memberId);
  }

  #take(input: GroupInput, nowMs: number): void {
    if (this.#dead) {
      if (input.type === 'join' || input.type === 'assign') this.#refuse(input, 'GROUP_DEAD', 'the group is deleted');
      return;
    }
    switch (input.type) {
      case 'join': {
        const refusal = this.#membership.join(input, nowMs);
        if (refusal !== null) this.#refuse(input, refusal.reason, refusal.message);
        return;
      }
      case 'leave': {
        const member = this.#find(input.memberId);
        if (member !== undefined) this.#membership.remove(member, input.reason, nowMs);
        return;
      }
      case 'alive':
        this.#membership.alive(input.memberId, input.revoked, nowMs);
        return;
      case 'progress':
        this.#membership.progress(input.memberId, input.busySinceMs, nowMs);
        return;
      case 'drained':
        this.#holdings.release(this.#holdings.find(input.partition));
        return;
      case 'assign':
        this.#assign(input);
        return;
      case 'topic':
        // Without members there is nothing to assign; the next join calls for a rebalance.
        if (this.#holdings.resize(input.topicId, input.partitions) && this.memberCount > 0) {
          this.#rebalance.call('PARTITIONS_CHANGED', null, nowMs);
        }
        return;
      case 'hold':
        if (!this.#holdings.withhold(input.topicId, input.held) || this.memberCount === 0) return;
        this.#membership.changed = true;
        this.#rebalance.call('OFFSETS_RESET', null, nowMs);
        return;
      case 'delete':
        this.#delete(input);
        return;
      case 'tick':
        return;
    }
  }

  #delete(input: GroupInput): void {
    const { size } = this.#membership.roster;
    if (size === 0) this.#dead = true;
    else this.#refuse(input, 'GROUP_NOT_EMPTY', `the group has ${size} members`);
  }

  #refuse(input: GroupInput, reason: RefusalReason, message: string): void {
    this.#refused.push({ type: 'refused', input, reason, message });
  }

  #wakeMs(): number {
    return Math.min(this.#membership.wakeMs, this.#holdings.wakeMs, this.#awaited?.deadlineMs ?? Infinity);
  }

  #expire(nowMs: number): void {
    if (this.#awaited !== null && this.#awaited.deadlineMs <= nowMs) this.#expirePlan(this.#awaited, nowMs);
    this.#membership.expire(nowMs);
    this.#holdings.expire(nowMs);
  }

  /** Removes the leader whose plan has not arrived in time. */
  #expirePlan({ leaderId }: AwaitedPlan, nowMs: number): void {
    this.#awaited = null;
    const leader = this.#membership.roster.first;
    if (leader === undefined) return;
    // While changes are gathered a plan is refused, and a leader's new process was not asked for
    // one.
    if (this.preparing || leader.row.memberId !== leaderId) this.#await(leader, nowMs);
    else this.#membership.remove(leader, 'REBALANCE_TIMEOUT', nowMs);
  }

  #await({ row }: Member, nowMs: number): void {
    this.#awaited = { leaderId: row.memberId, deadlineMs: nowMs + row.rebalanceTimeoutMs };
  }

  #isDue(nowMs: number): boolean {
    return this.#membership.roster.size === 0 || nowMs >= this.#rebalancedMs + this.#gatherMs;
  }

  /** Decides the targets, and begins a generation if they changed. */
  #balance(nowMs: number): void {
    const changed = this.#choose(nowMs);
    const { joins } = this.#membership;
    if (changed || this.#membership.changed || joins.size > 0) {
      this.#generation++;
      this.#rebalancedMs = nowMs;
      const cutShort = this.#rebalance.begin(this.#generation, nowMs, this.memberCount);
      if (cutShort !== null) this.#turn.rebalanced(cutShort);
    } else {
      this.#rebalance.dismiss();
    }
    this.#membership.seen();
    this.#holdings.reconcile(nowMs);
  }

  /** Sets the targets. @returns whether any of them changed. */
  #choose(nowMs: number): boolean {
    return this.leader === null ? this.#decide(nowMs) : this.#askLeader(nowMs);
  }

  /**
   * Applies the broker's rule. If it fails, the new joins are refused. If it fails without them
   * too, `sticky` decides. @returns whether any target changed.
   */
  #decide(nowMs: number): boolean {
    const { assignor } = this;
    try {
      return this.#retarget(this.#assignors.get(assignor));
    } catch (error) {
      if (!(error instanceof AssignorError)) throw error;
      const message = `the assignor "${assignor}" failed: ${error.message}`;
      const undone = this.#membership.undoJoins(nowMs);
      for (const input of undone) this.#refuse(input, 'ASSIGNOR_FAILED', message);
      // The refused joins move nothing, and moves under way continue.
      if (undone.length > 0) return this.#rebalance.isCalledFor && this.#choose(nowMs);
      this.#turn.say({ type: 'assignorFailed', assignor, message });
      return this.#retarget(sticky);
    }
  }

  #retarget(assignor: Assignor | undefined): boolean {
    if (assignor === undefined) throw new AssignorError('no assignor of this name is registered');
    const changed = retarget(assignor, this.#membership.roster.takers(), this.#holdings.givable());
    this.#awaited = null;
    return changed;
  }

  /** Asks the leader for a plan, if one is needed. @returns whether it is. */
  #askLeader(nowMs: number): boolean {
    const takers = this.#membership.roster.takers();
    const complete = keepTargets(takers, this.#holdings.givable()) && takers.every(({ held }) => held.size > 0);
    const wanted = !complete || !this.#fresh || this.#membership.changed || this.#membership.joins.size > 0;
    const leader = this.#membership.roster.first;
    this.#awaited = null;
    if (wanted && leader !== undefined) this.#await(leader, nowMs);
    return wanted;
  }

  #assign(input: Assign): void {
    const { memberId, generation, plan } = input;
    if (this.#find(memberId) === undefined) {
      this.#refuse(input, 'MEMBER_UNKNOWN', memberFenced({ memberId }).message);
    } else if (this.leader !== memberId) {
      this.#refuse(input, 'NOT_LEADER', `"${memberId}" is not the leader of this group`);
    } else if (this.preparing || generation !== this.#generation || this.#awaited === null) {
      this.#refuse(input, 'STALE_GENERATION', `generation ${generation} wants no assignment: join again`);
    } else {
      const members = this.#membership.roster.takers();
      const topics = this.#holdings.givable();
      const assignment = assignmentOf(plan, assignorInput(members, topics));
      if (typeof assignment === 'string') {
        this.#refuse(input, 'ASSIGNOR_FAILED', assignment);
        return;
      }
      setTargets(assignment, members, topics);
      this.#awaited = null;
      this.#planned = true;
    }
  }

  /** Reports the rebalance if it is over. */
  #settle(nowMs: number): void {
    if (!this.#rebalance.isRunning) return;
    this.#rebalance.moved(this.#turn.assignedCount, this.#turn.revokedCount);
    if (this.#awaited !== null || this.#holdings.isRevoking) return;
    const over = this.#rebalance.complete(nowMs, this.memberCount);
    if (over !== null) this.#turn.rebalanced(over);
  }
}
