import type {
  AssignmentTask,
  JoinGroupOutcome,
  MemberAssignment,
  AssignmentPage,
} from '../../../src/broker/commands.ts';
import { Rejection } from '../../../src/errors/rejections/rejection.ts';
import { retryMs, type MemberSite } from './member.ts';
import { caller } from '../network.ts';
import { planOf } from './plan.ts';
import { StreamMember } from './stream-member.ts';

const syncWaitMs = 3_000;

/**
 * A member that joins with JoinGroup, gets its assignment with SyncGroup, and reads with a stream.
 * If the members assign the partitions themselves, it makes the plan when it is the leader.
 */
export class ClassicMember extends StreamMember {
  readonly #rules: readonly string[];
  readonly #assignor: string;
  #metadata = new Uint8Array();
  /** Whether the broker does not know the member's current options. */
  #joinWanted = true;
  #leading = false;

  constructor(site: MemberSite, instanceId: string | null) {
    super(site, instanceId, true);
    const { clientSide, world, assignors } = site;
    this.#assignor = world.pick(assignors)!;
    // All members of such a group can use `range`, so that they have a common rule.
    this.#rules = clientSide ? world.pick([['cooperative_sticky', 'range'], ['range']])! : [];
  }

  override start(): void {
    super.start();
    void this.#sync();
  }

  protected override changed(): void {
    this.#joinWanted = true;
    this.#metadata = new Uint8Array([this.site.world.whole(0, 255)]);
    super.changed();
  }

  protected override forgetMembership(): void {
    this.#joinWanted = true;
    super.forgetMembership();
  }

  protected override async enter(isCurrent: () => boolean): Promise<boolean> {
    const { world } = this.site;
    while (this.#joinWanted && isCurrent() && !this.stopping) {
      try {
        this.#joinWanted = false;
        const joined = await this.#join();
        if (!isCurrent()) {
          // The options may have changed during the join.
          this.#joinWanted = true;
          return false;
        }
        this.memberId = joined.memberId;
        this.generation = Math.max(this.generation, joined.generation);
        if (joined.task !== null) void this.#plan(joined.task, joined);
      } catch (error) {
        this.#joinWanted = true;
        if (error instanceof Rejection) this.refused(error, true);
        await world.pause(retryMs * world.fraction());
      }
    }
    return !this.stopping;
  }

  /** Joins again after a heartbeat that asked for a plan, because JoinGroup returns the task. */
  protected override lead(): void {
    if (this.#leading) return;
    const { memberId } = this;
    this.#leading = true;
    void this.#join()
      .then((joined) => {
        if (this.alive && this.memberId === memberId && joined.task !== null) return this.#plan(joined.task, joined);
      })
      .catch((error: unknown) => {
        if (this.memberId === memberId && error instanceof Rejection) this.sentAway(error);
      })
      .finally(() => {
        this.#leading = false;
      });
  }

  #join(): Promise<JoinGroupOutcome> {
    const { network, ledger, group, start } = this.site;
    const command = {
      group,
      topics: this.topics,
      start,
      clientId: 'classic',
      instanceId: this.instanceId,
      maxPollIntervalMs: this.maxPollIntervalMs,
      lanes: true,
      clientAssignors: this.#rules,
      metadata: this.#metadata,
      memberId: this.memberId,
      sessionTimeoutMs: this.sessionTimeoutMs!,
      rebalanceTimeoutMs: this.rebalanceTimeoutMs,
      assignor: this.#assignor,
    };
    return network.call(async (broker, { epoch }, reply) => {
      const joined = await broker.group.joinGroup(caller, { ...command, reply });
      ledger.groups.generationTold({ epoch, group, memberId: joined.memberId }, joined.generation);
      return joined;
    });
  }

  /** Sends the plan: at once, late, or without one of the members. */
  async #plan(task: AssignmentTask, { generation, assignor }: JoinGroupOutcome): Promise<void> {
    const { world, troubled } = this.site;
    if (troubled() && world.chance(0.35)) await world.pause(world.between(0, 12_000));
    const { memberId } = this;
    if (!this.alive || memberId === null) return;
    const members = planOf(task, assignor);
    const wrong = troubled() && world.chance(0.05);
    try {
      await this.#syncGroup(memberId, null, { generation, members: wrong ? members.slice(1) : members });
    } catch (error) {
      if (error instanceof Rejection && this.memberId === memberId) this.#heard(error);
    }
  }

  /** Waits for changes of the assignment, one after the other. */
  async #sync(): Promise<void> {
    const { world } = this.site;
    while (this.alive && !this.stopping) {
      const { memberId } = this;
      try {
        if (memberId === null) throw new Error('it has not joined yet');
        const synced = await this.#syncGroup(memberId, this.generation, null);
        if (this.memberId === memberId) this.generation = Math.max(this.generation, synced.generation);
      } catch (error) {
        if (error instanceof Rejection && this.memberId === memberId) this.#heard(error);
        await world.pause(retryMs);
      }
    }
  }

  #heard(error: Rejection): void {
    if (error.reason === 'MEMBER_FENCED') this.sentAway(error);
  }

  #syncGroup(
    memberId: NonNullable<ClassicMember['memberId']>,
    knownGeneration: number | null,
    plan: { readonly generation: number; readonly members: readonly MemberAssignment[] } | null,
  ): Promise<AssignmentPage> {
    const { network, ledger, group } = this.site;
    const { signal } = new AbortController();
    return network.call(async (broker, serving) => {
      const { epoch } = serving;
      const durable = ledger.groups.row(group)?.generation ?? 0;
      const synced = await broker.group.syncGroup({
        group,
        memberId,
        knownGeneration,
        plan,
        waitMs: syncWaitMs,
        signal,
      });
      ledger.groups.generationTold({ epoch, group, memberId }, synced.generation);
      if (plan !== null && !serving.ended) ledger.groups.planTaken(epoch, group, plan.generation, durable);
      return synced;
    });
  }
}
