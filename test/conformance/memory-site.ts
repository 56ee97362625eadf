import { Fault } from '../../src/errors/fault.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { MemoryGroups, MemoryGroupStore } from '../support/memory-group-store.ts';
import { MemoryLogs, MemoryLogStore } from '../support/memory-log-store.ts';
import { MemoryTopicStore } from '../support/memory-topic-store.ts';
import { MemoryRetentionStore } from '../support/retention/memory-retention-store.ts';
import type { Stores, StoreSite } from './site.ts';

const appendSlots = 4;

/** The in-memory twins of `test/support`, over shared tables. */
export class MemoryStoreSite implements StoreSite {
  readonly #clock = new FakeClock(1_700_000_000_000);
  readonly #logs = new MemoryLogs();
  readonly #groups = new MemoryGroups();
  #renewedAtMs: number | null = null;

  constructor() {
    this.#groups.nowMs = () => this.#clock.wallMs();
  }

  get nowMs(): number {
    return this.#clock.wallMs();
  }

  own(): Promise<Stores> {
    if (this.#renewedAtMs !== null) this.#groups.subscriptions.endedEpochs.set(this.#groups.epoch, this.#renewedAtMs);
    this.#renewedAtMs = null;
    this.#logs.epoch += 1;
    this.#groups.epoch += 1;
    const log = new MemoryLogStore(this.#clock, { shared: this.#logs, groups: this.#groups, appendSlots });
    const topics = new MemoryTopicStore(this.#logs, this.#groups);
    const groups = new MemoryGroupStore(this.#groups);
    const [epoch, logs] = [this.#logs.epoch, this.#logs];
    const demandOwner = (): void => {
      if (epoch !== logs.epoch) throw new Fault('FENCED', 'another broker has taken over');
    };
    const retention = new MemoryRetentionStore({ logs, groups: this.#groups, demandOwner });
    return Promise.resolve({ log, commits: log, topics, groups, retention });
  }

  renew(): Promise<void> {
    this.#renewedAtMs = this.nowMs;
    return Promise.resolve();
  }

  pass(ms: number): void {
    this.#clock.jump(ms);
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}
