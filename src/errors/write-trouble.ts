import { Fault } from './fault.ts';

/**
 * Whether the database takes writes, as the writes of all sessions have found. It begins with the
 * first write that fails for a full disk or a read-only database, and ends with a probe.
 */
export class WriteTrouble {
  readonly #nowMs: () => number;
  #kind: 'DISK_FULL' | 'DATABASE_READ_ONLY' | null = null;
  #sinceMs = 0;
  #onBegin: () => void = () => undefined;

  /** @param nowMs the time of the machine. */
  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
  }

  /** Why no write can succeed at the moment; null if one may. */
  get kind(): 'DISK_FULL' | 'DATABASE_READ_ONLY' | null {
    return this.#kind;
  }

  /** Since when, in milliseconds since the epoch. */
  get sinceMs(): number {
    return this.#sinceMs;
  }

  onBegin(listener: () => void): void {
    this.#onBegin = listener;
  }

  /** @throws Fault while no write can succeed. Each try would take space that others need. */
  refuse(): void {
    if (this.#kind === 'DISK_FULL') throw new Fault('DISK_FULL', 'the disk of the database is full');
    if (this.#kind !== null) throw new Fault('DATABASE_READ_ONLY', 'the database is read-only');
  }

  /** Notes an error of a write. */
  noticed(error: Error): void {
    if (!(error instanceof Fault) || (error.kind !== 'DISK_FULL' && error.kind !== 'DATABASE_READ_ONLY')) return;
    const isNew = this.#kind === null;
    this.#kind = error.kind;
    if (!isNew) return;
    this.#sinceMs = this.#nowMs();
    this.#onBegin();
  }

  /** A probe has written. */
  ended(): void {
    this.#kind = null;
  }
}
