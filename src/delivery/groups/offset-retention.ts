import { Fault } from '../../errors/fault.ts';
import { Rejection } from '../../errors/rejections/rejection.ts';
import type { BackgroundJob } from '../../time/background-job.ts';
import { Every } from '../../time/every.ts';
import type { ConsumerGroup } from './consumer-group.ts';
import type { GroupContext } from './context.ts';
import type { Groups } from './groups.ts';
import type { LoadedGroup } from '../ports/store.ts';

/** How often to look for groups that have been empty too long, and the least time between two writes of that they are in use. */
const lookIntervalMs = 60_000;

interface Emptiness {
  readonly sinceMs: number;
  /** Every change of the members raises it: with another one, somebody has been there meanwhile. */
  readonly generation: number;
}

interface OffsetRetentionDeps {
  readonly groups: Groups;
  readonly context: GroupContext;
  /** 0: for ever. */
  readonly retentionMs: number;
}

/**
 * Deletes groups that have had no members, and no use of their offsets, for the time of retention. Since when they are empty is
 * durable (the store writes it with the removal of the last member) and read once, at the load; from then on memory knows it, so that
 * looking costs no query. A group may live a look longer than it must, never shorter.
 */
export class OffsetRetention implements BackgroundJob {
  readonly #d: OffsetRetentionDeps;
  #empty = new Map<ConsumerGroup, Emptiness>();
  /** Groups whose offsets were used since the last look. */
  #touched = new Set<ConsumerGroup>();
  readonly #loop: Every;

  constructor(deps: OffsetRetentionDeps) {
    this.#d = deps;
    const { clock, log } = deps.context;
    this.#loop = new Every({
      clock,
      delayMs: lookIntervalMs,
      run: () => this.#look(),
      onError: (error) => {
        log.warn({ err: error }, 'groups that are past their retention could not be looked for; it is tried again');
      },
    });
  }

  start(): void {
    this.#loop.start();
  }

  /** The group was loaded. If it is empty, it has been so for as long as the database says. */
  loaded(group: ConsumerGroup, { emptyForMs }: LoadedGroup): void {
    if (group.members.size === 0) this.#note(group, this.#d.context.clock.nowMs() - (emptyForMs ?? 0));
  }

  /** Something was done with the offsets of the group: if it is empty, its time begins anew. */
  touch(group: ConsumerGroup): void {
    this.#touched.add(group);
    this.#note(group, this.#d.context.clock.nowMs());
  }

  stop(): Promise<void> {
    return this.#loop.stop();
  }

  #note(group: ConsumerGroup, sinceMs: number): void {
    this.#empty.set(group, { sinceMs, generation: group.generation });
  }

  async #look(): Promise<void> {
    const { groups, retentionMs, context } = this.#d;
    const nowMs = context.clock.nowMs();
    const before = this.#empty;
    this.#empty = new Map();
    for (const group of groups.all()) {
      if (group.members.size > 0) continue;
      const known = before.get(group);
      this.#note(group, known?.generation === group.generation ? known.sinceMs : nowMs);
    }
    const due = [...this.#empty].filter(([, { sinceMs }]) => retentionMs > 0 && nowMs - sinceMs >= retentionMs);
    await this.#writeTouched();
    for (const [group] of due) await this.#delete(group);
  }

  async #writeTouched(): Promise<void> {
    const touched = [...this.#touched].filter((group) => this.#empty.has(group));
    this.#touched = new Set();
    if (touched.length === 0) return;
    try {
      await this.#d.context.writer.settle((store) => store.touchGroups(touched.map(({ id }) => id)));
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      for (const group of touched) this.#touched.add(group);
    }
  }

  async #delete(group: ConsumerGroup): Promise<void> {
    const { groups, retentionMs, context } = this.#d;
    const { clock, log } = context;
    // Somebody may have come, or used the offsets, while others were deleted.
    const known = this.#empty.get(group);
    if (!this.#loop.isStarted || known === undefined || known.generation !== group.generation) return;
    if (clock.nowMs() - known.sinceMs < retentionMs) return;
    try {
      await groups.delete(group.name);
      log.info(
        { group: group.name },
        'a group was deleted with its offsets: it has had no members for offset_retention_ms',
      );
    } catch (error) {
      if (error instanceof Rejection) return;
      if (!(error instanceof Fault)) throw error;
      log.warn(
        { err: error, group: group.name },
        'a group that is past its retention could not be deleted; it is tried again',
      );
    }
  }
}
