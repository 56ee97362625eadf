import type { PullOutcome } from '../../../src/broker/commands.ts';
import type { TopicPartition } from '../../../src/delivery/ports/session.ts';
import { Rejection } from '../../../src/errors/rejections/rejection.ts';
import type { SentBatch } from '../ledgers/ledger.ts';
import { Member, retryMs, type MemberSite } from './member.ts';
import { caller, decode } from '../network.ts';

/** A member that pulls. Each of its records has a lease. */
export class PullMember extends Member {
  /**
   * A lost answer of a Pull may have records before those of the next one, which a cumulative ack
   * would ack unseen.
   */
  protected readonly cumulative = false;
  readonly #sessionTimeoutMs: number;

  constructor(site: MemberSite, instanceId: string | null = null) {
    super(site, instanceId);
    this.#sessionTimeoutMs = site.world.whole(6_000, 20_000);
  }

  start(): void {
    void this.#run();
    if (this.site.world.chance(0.5)) void this.beat();
  }

  protected override changed(): void {
    // The next Pull names the new topics.
  }

  protected override sentAway(error: Rejection): void {
    this.refused(error, false);
    if (!this.stopping) this.round++;
  }

  async #run(): Promise<void> {
    const { world } = this.site;
    while (this.alive && !this.stopping) {
      try {
        const { memberId, generation, batches } = await this.#pull();
        if (!this.alive) return;
        if (this.memberId !== memberId) this.round++;
        this.memberId = memberId;
        this.generation = Math.max(this.generation, generation);
        for (const batch of batches) this.take(batch, generation);
        await world.pause(this.busyMs);
      } catch (error) {
        if (error instanceof Rejection) this.refused(error, true);
        await world.pause(retryMs * world.fraction());
      }
    }
  }

  #pull(): Promise<PullOutcome & { readonly batches: readonly SentBatch[] }> {
    const { world, network, ledger, group, start } = this.site;
    const waitMs = world.pick([0, 500, 3_000])!;
    const command = {
      group,
      topics: this.topics,
      start,
      maxRecords: world.whole(1, 20),
      maxBytes: 1e6,
      waitMs,
      memberId: this.memberId,
      clientId: 'pull',
      instanceId: this.instanceId,
      maxPollIntervalMs: this.maxPollIntervalMs,
      lanes: true,
      sessionTimeoutMs: this.#sessionTimeoutMs,
      autoAck: false,
    };
    return network.call(async (broker, { epoch }, reply) => {
      const pulled = await broker.broker.pull(caller, { ...command, reply });
      const recipient = { epoch, group, memberId: pulled.memberId };
      ledger.groups.generationTold(recipient, pulled.generation);
      const batches = pulled.fields.map(decode);
      const named = ({ topic, partition }: TopicPartition): number | undefined =>
        pulled.gaps.find((gap) => gap.topic === topic && gap.partition === partition)?.last;
      for (const gap of pulled.gaps) ledger.gaps.named(group, gap);
      for (const batch of batches) {
        ledger.sent(recipient, batch);
        ledger.gaps.sent(recipient, batch, named);
      }
      return { ...pulled, batches };
    }, waitMs + 8_000);
  }
}
