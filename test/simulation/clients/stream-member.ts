import { Rejection } from '../../../src/errors/rejections/rejection.ts';
import { Member, retryMs, type MemberSite } from './member.ts';
import { keepaliveMs, type ClientStream } from '../network.ts';

/**
 * A member with a stream. With a session timeout it outlives the stream; otherwise it ends with it.
 */
export class StreamMember extends Member {
  /** A new stream begins with all records that are not acked, so a cumulative ack is safe. */
  protected readonly cumulative = true;
  protected readonly sessionTimeoutMs: number | null;
  protected readonly rebalanceTimeoutMs: number;
  protected stream: ClientStream | null = null;

  constructor(site: MemberSite, instanceId: string | null, hasSession = instanceId !== null) {
    super(site, instanceId);
    const { world } = site;
    this.sessionTimeoutMs = hasSession || world.chance(0.4) ? world.whole(6_000, 15_000) : null;
    // A leader learns from a heartbeat that its plan is wanted, so it needs a longer timeout.
    this.rebalanceTimeoutMs = world.whole(site.clientSide ? 5_000 : 1_000, 8_000);
  }

  start(): void {
    void this.#begin();
    if (this.sessionTimeoutMs !== null) void this.beat();
  }

  override crash(): void {
    super.crash();
    this.stream?.close();
  }

  /** How many events of a stream the client takes. */
  protected eventsMax(): number {
    return Infinity;
  }

  /** Joins before the stream opens. @returns whether the stream may open. */
  protected enter(_isCurrent: () => boolean): Promise<boolean> {
    return Promise.resolve(true);
  }

  protected override changed(): void {
    this.stream?.close();
    if (this.sessionTimeoutMs === null) this.forgetMembership();
    void this.#begin();
  }

  protected override sentAway(error: Rejection): void {
    this.stream?.close();
    this.#closed(error, false);
  }

  async #begin(): Promise<void> {
    const round = ++this.round;
    const isCurrent = (): boolean => this.alive && this.round === round;
    if ((await this.enter(isCurrent)) && isCurrent()) this.#open();
  }

  #open(): void {
    const { network, group, start, world, assignors } = this.site;
    const round = ++this.round;
    let isOpen = false;
    this.stream = network.open(
      {
        group,
        topics: this.topics,
        start,
        maxInFlightRecords: world.whole(1, 40),
        maxInFlightBytes: 1e6,
        clientId: 'stream',
        instanceId: this.instanceId,
        maxPollIntervalMs: this.maxPollIntervalMs,
        lanes: true,
        metadata: new Uint8Array(),
        memberId: this.memberId,
        sessionTimeoutMs: this.sessionTimeoutMs,
        rebalanceTimeoutMs: this.rebalanceTimeoutMs,
        assignor: world.pick(assignors)!,
        autoAck: false,
        assignmentChanges: this.instanceId !== null,
      },
      {
        event: (event) => {
          isOpen = true;
          if (this.round !== round) return;
          this.generation = Math.max(this.generation, event.generation);
          if (event.type === 'joined') this.memberId = event.memberId;
          else if (event.type === 'revoking') this.revoking = event.partitions;
          else if (event.type === 'batch') this.take(event.batch, event.generation);
        },
        closed: (error) => {
          if (this.round === round) this.#closed(error, !isOpen);
        },
      },
      this.eventsMax(),
    );
  }

  #closed(error: Error | null, entering: boolean): void {
    const { world } = this.site;
    if (error instanceof Rejection) this.refused(error, entering);
    if (this.stopping) return;
    if (this.sessionTimeoutMs === null) this.forgetMembership();
    const round = ++this.round;
    world.after(retryMs * world.fraction(), () => {
      if (this.alive && this.round === round) void this.#begin();
    });
  }
}

/** A member that takes the first events of each stream and reads no more. */
export class StuckReader extends StreamMember {
  protected override eventsMax(): number {
    return this.site.world.whole(0, 3);
  }
}

const manyTimes = 20;

/** A member that leaves its stream at random, and opens another one, for ever. */
export class ReconnectingMember extends StreamMember {
  override start(): void {
    super.start();
    void this.#reconnect();
  }

  async #reconnect(): Promise<void> {
    const { world } = this.site;
    const restMsMax = world.between(100, 2_000);
    for (let times = 1; this.alive && !this.stopping; times++) {
      if (times === manyTimes) world.count(`a member reconnects ${manyTimes} times`);
      await world.pause(world.between(0, restMsMax));
      if (!this.alive || this.stopping) return;
      const choice = world.fraction();
      if (choice < 0.4) this.stream?.break(world.chance(0.4) ? keepaliveMs : 0);
      else if (choice < 0.7) this.#leave();
      else this.changed();
    }
  }

  /** Leaves the group, and joins it as another member. */
  #leave(): void {
    const { network, group } = this.site;
    const { memberId } = this;
    if (memberId !== null) {
      void network.call((broker) => broker.group.leaveGroup({ group, memberId })).catch(() => undefined);
    }
    this.forgetMembership();
    this.changed();
  }
}
