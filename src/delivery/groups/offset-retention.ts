import { Fault } from '../../errors/fault.ts';
import { Rejection } from '../../errors/rejections/rejection.ts';
import type { BackgroundJob } from '../../time/background-job.ts';
import { Every } from '../../time/every.ts';
import type { ConsumerGroup } from './consumer-group.ts';
import type { GroupContext } from './context.ts';
import type { Groups } from './groups.ts';
import type { LoadedGroup } from '../ports/store.ts';

/** The interval of the look for groups past their retention, and of the write of touched groups. */
const lookIntervalMs = 60_000;

interface Emptiness {
  readonly sinceMs: number;
  /** Every change of the members raises it, so another generation means that a member was there. */
  readonly generation: number;
}

interface OffsetRetentionDeps {
  readonly groups: Groups;
  readonly context: GroupContext;
  /** 0 keeps all groups for ever. */
  readonly retentionMs: number;
}

/**
 * Deletes groups that have had no members, and no use of their offsets, for the time of retention,
 * and all of whose subscriptions are DEAD: nothing is removed that is owed to a living one.
 * The store writes since when a group is empty with the removal of the last member. The broker
 * reads that time once, with the load, so a look costs no query. A group may live one interval
 * longer than its retention, never shorter.
 */
export class OffsetRetention implements BackgroundJob {
  readonly #d: OffsetRetentionDeps;
  #empty = new Map<ConsumerGroup, Emptiness>();
  /** Groups whose offsets were used since the last look, which writes that. */
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
        log.warn({ err: error }, 'the look for groups past their retention failed; the broker will look again');
      },
    });
  }

  start(): void {
    this.#loop.start();
  }

  /** Takes the time of a loaded group from the database, if the group is empty. */
  loaded(group: ConsumerGroup, { emptyForMs }: LoadedGroup): void {
    if (group.members.size === 0) this.#note(group, this.#d.context.clock.nowMs() - (emptyForMs ?? 0));
  }

  /** Starts the retention of an empty group again, after a use of its offsets. */
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
    for (const group of groups.inMemory.all()) {
      if (group.members.size > 0) continue;
      const known = before.get(group);
      this.#note(group, known?.generation === group.generation ? known.sinceMs : nowMs);
    }
    const due = [...this.#empty].filter(([group, { sinceMs }]) => {
      return retentionMs > 0 && nowMs - sinceMs >= retentionMs && holdsNothing(group);
    });
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
    // A member may have joined, or a call used the offsets, while other groups were deleted.
    const known = this.#empty.get(group);
    if (!this.#loop.isStarted || known === undefined || known.generation !== group.generation) return;
    if (clock.nowMs() - known.sinceMs < retentionMs || !holdsNothing(group)) return;
    try {
      await groups.delete(group.name, 'OFFSET_RETENTION');
      log.info(
        { group: group.name },
        'a group was deleted with its offsets: it has had no members for offset_retention_ms',
      );
    } catch (error) {
      if (error instanceof Rejection) return;
      if (!(error instanceof Fault)) throw error;
      log.warn(
        { err: error, group: group.name },
        'a group past its retention could not be deleted; the broker will try again',
      );
    }
  }
}

/** Whether all subscriptions of the group are DEAD. Cancelled ones are not in memory. */
function holdsNothing({ subscriptions }: ConsumerGroup): boolean {
  for (const { row } of subscriptions.values()) if (row.state !== 'DEAD') return false;
  return true;
}
