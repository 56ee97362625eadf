import type { TopicPartition } from '../../src/delivery/session.ts';
import { Rejection } from '../../src/errors/rejection.ts';
import { Member, retryMs, type MemberSite } from './member.ts';
import { caller, type ClientStream } from './network.ts';

/**
 * A member with a stream: with a session timeout it outlives it, without one it goes with it. A classic one joins by JoinGroup, asks
 * for its assignment by SyncGroup, and reads by a stream all the same.
 */
export class StreamMember extends Member {
  /** A stream that breaks is begun again, with everything that is not acked. */
  protected readonly cumulative = true;
  readonly #sessionTimeoutMs: number | null;
  readonly #classic: boolean;
  #stream: ClientStream | null = null;
  #revoking: readonly TopicPartition[] = [];

  constructor(site: MemberSite) {
    super(site);
    this.#sessionTimeoutMs = site.world.chance(0.6) ? site.world.whole(6_000, 15_000) : null;
    this.#classic = this.#sessionTimeoutMs !== null && site.world.chance(0.4);
  }

  start(): void {
    void this.#begin();
    if (this.#sessionTimeoutMs !== null) void this.#beat();
    if (this.#classic) void this.#sync();
  }

  override crash(): void {
    super.crash();
    this.#stream?.close();
  }

  async #begin(): Promise<void> {
    const { network, group, topics, start, world } = this.site;
    const round = ++this.round;
    while (this.#classic && this.memberId === null && this.round === round) {
      try {
        const joined = await network.call((broker) =>
          broker.joinGroup(caller, {
            group,
            topics,
            start,
            clientId: 'classic',
            instanceId: null,
            maxPollIntervalMs: 300_000,
            clientAssignors: [],
            metadata: new Uint8Array(),
            memberId: null,
            sessionTimeoutMs: this.#sessionTimeoutMs!,
            rebalanceTimeoutMs: world.whole(1_000, 8_000),
            assignor: 'range',
          }),
        );
        if (this.round === round) ({ memberId: this.memberId, generation: this.generation } = joined);
      } catch {
        await world.pause(retryMs * world.fraction());
      }
    }
    if (this.alive && this.round === round) this.#open();
  }

  #open(): void {
    const { network, group, topics, start, world } = this.site;
    const round = ++this.round;
    const stream = network.open(
      {
        group,
        topics,
        start,
        maxInFlightRecords: world.whole(1, 40),
        maxInFlightBytes: 1e6,
        clientId: 'stream',
        instanceId: null,
        maxPollIntervalMs: 300_000,
        metadata: new Uint8Array(),
        memberId: this.memberId,
        sessionTimeoutMs: this.#sessionTimeoutMs,
        rebalanceTimeoutMs: world.whole(1_000, 8_000),
        assignor: world.pick(['sticky', 'range', 'round_robin'] as const)!,
        autoAck: false,
      },
      {
        event: (event) => {
          if (this.round !== round) return;
          this.generation = Math.max(this.generation, event.generation);
          if (event.type === 'joined') this.memberId = event.memberId;
          else if (event.type === 'revoking') this.#revoking = event.partitions;
          else if (event.type === 'batch') this.take(event.batch);
        },
        closed: (error) => {
          if (this.round === round) this.#closed(error);
        },
      },
    );
    this.#stream = stream;
  }

  protected override sentAway(error: Rejection): void {
    this.#stream?.close();
    this.#closed(error);
  }

  #closed(error: Error | null): void {
    const { world } = this.site;
    const gone = error instanceof Rejection && ['MEMBER_FENCED', 'GROUP_NOT_FOUND'].includes(error.reason);
    if (gone || this.#sessionTimeoutMs === null) {
      this.memberId = null;
      this.generation = 0;
    }
    const round = ++this.round;
    world.after(retryMs * world.fraction(), () => {
      if (this.alive && this.round === round) void this.#begin();
    });
  }

  /** Waits for each change of its assignment. */
  async #sync(): Promise<void> {
    const { world, network, group } = this.site;
    while (this.alive) {
      const { memberId } = this;
      const command = {
        group,
        knownGeneration: this.generation,
        plan: null,
        waitMs: 3_000,
        signal: new AbortController().signal,
      };
      try {
        if (memberId === null) throw new Error('it has not joined yet');
        const synced = await network.call((broker) => broker.syncGroup(caller, { ...command, memberId }));
        if (this.memberId === memberId) this.generation = Math.max(this.generation, synced.generation);
      } catch {
        await world.pause(retryMs);
      }
    }
  }

  async #beat(): Promise<void> {
    const { world, network, group } = this.site;
    while (this.alive) {
      const { memberId, generation } = this;
      const revoked = world.chance(0.5) ? this.#revoking : [];
      if (memberId !== null) {
        try {
          const beat = await network.call((broker) =>
            broker.heartbeat(caller, { group, memberId, generation, revoked }),
          );
          if (this.memberId === memberId) this.generation = Math.max(this.generation, beat.generation);
          if (revoked.length > 0) this.#revoking = [];
        } catch (error) {
          if (error instanceof Rejection && this.memberId === memberId) this.sentAway(error);
        }
      }
      await world.pause(3_000);
    }
  }
}
