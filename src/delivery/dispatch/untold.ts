/** What the stream tells next. `removed` is null in an assignment that names everything. */
export type Fact<P> =
  | { readonly type: 'joined' | 'draining' | 'idle' }
  | { readonly type: 'assigned'; readonly partitions: readonly P[]; readonly removed: readonly P[] | null }
  | { readonly type: 'gap'; readonly log: P }
  | { readonly type: 'revoking'; readonly partitions: readonly P[] };

interface UntoldOptions<P> {
  /** The partitions of the member. */
  readonly held: () => Iterable<P>;
  /** The logs that have an open gap when the stream begins. */
  readonly gaps: Iterable<P>;
  /** The partitions that are being revoked when the stream begins. */
  readonly asked: Iterable<P>;
  /** After the first assignment the client wants only changes. */
  readonly changes: boolean;
  /** What a partition needs in an event, and how much of that one event may have. */
  readonly bytesOf: (partition: P) => number;
  readonly assignedBytesMax: number;
  readonly revokingBytesMax: number;
}

/**
 * What a stream has not told its client yet (SPEC.md beside this file). Changes fold while the
 * client does not read, and become events one by one when it does.
 */
export class Untold<P> {
  readonly #o: UntoldOptions<P>;
  /** Held partitions to name: NEW ones, and KNOWN ones whose revocation has ended. */
  readonly #named = new Map<P, 'NEW' | 'KNOWN'>();
  /** Partitions that the client has and that have left the member. They may be back. */
  readonly #removed = new Set<P>();
  /** Partitions whose revocation the client does not know. */
  readonly #asked: Set<P>;
  /** Logs of the member whose gap the client does not know. Null without any, as nearly always. */
  #gaps: Set<P> | null = null;
  #joined = true;
  #assigned = true;
  /** The next Assigned names everything. */
  #whole = true;
  /** An assignment was too large for one event, and the rest of it follows as changes. */
  #inParts = false;
  #draining = false;
  #idle = false;

  constructor(options: UntoldOptions<P>) {
    this.#o = options;
    this.#asked = new Set(options.asked);
    for (const log of options.gaps) this.gapCame(log);
  }

  get isEmpty(): boolean {
    const facts = this.#joined || this.#assigned || this.#draining || this.#idle;
    return !(facts || (this.#gaps?.size ?? 0) > 0 || this.#asked.size > 0);
  }

  /** The member has got the partition. */
  came(partition: P): void {
    this.#named.set(partition, 'NEW');
  }

  /** The member keeps the partition, whose revocation has ended. */
  stays(partition: P): void {
    this.#asked.delete(partition);
    if (!this.#named.has(partition)) this.#named.set(partition, 'KNOWN');
  }

  went(partition: P): void {
    this.#asked.delete(partition);
    if (this.#named.get(partition) !== 'NEW') this.#removed.add(partition);
    this.#named.delete(partition);
  }

  /** A log of the member has a gap, or its gap has grown. */
  gapCame(log: P): void {
    (this.#gaps ??= new Set()).add(log);
  }

  /** The log has left the member. */
  gapWent(log: P): void {
    this.#gaps?.delete(log);
  }

  /** The partition is being revoked. */
  asked(partition: P): void {
    this.#asked.add(partition);
  }

  /** The changes so far are an assignment of which the client should know. */
  assigned(): void {
    this.#assigned = true;
    this.#whole ||= !this.#o.changes && !this.#inParts;
  }

  draining(): void {
    this.#draining = true;
  }

  idle(): void {
    this.#idle = true;
  }

  /** Takes the next fact, which the caller sends; null if the client knows all. */
  next(): Fact<P> | null {
    if (this.#joined) {
      this.#joined = false;
      return { type: 'joined' };
    }
    if (this.#assigned) return this.#whole ? this.#everything() : this.#changes();
    for (const log of this.#gaps ?? []) {
      this.gapWent(log);
      return { type: 'gap', log };
    }
    if (this.#asked.size > 0)
      return { type: 'revoking', partitions: this.#take(this.#asked, this.#o.revokingBytesMax) };
    return this.#last();
  }

  #last(): Fact<P> | null {
    if (this.#draining) {
      this.#draining = false;
      return { type: 'draining' };
    }
    if (!this.#idle) return null;
    this.#idle = false;
    return { type: 'idle' };
  }

  /** Leaves out what has left and is back, so that the client sees the gap, and names it next. */
  #everything(): Fact<P> {
    const back = new Set([...this.#removed].filter((partition) => this.#named.has(partition)));
    const rest = new Set(this.#o.held());
    for (const partition of back) rest.delete(partition);
    const partitions = this.#take(rest, this.#o.assignedBytesMax);
    this.#inParts = rest.size > 0;
    this.#whole = back.size > 0 && !this.#inParts && !this.#o.changes;
    this.#removed.clear();
    this.#named.clear();
    for (const partition of [...rest, ...back]) this.#named.set(partition, 'NEW');
    this.#assigned = this.#named.size > 0;
    return { type: 'assigned', partitions, removed: null };
  }

  #changes(): Fact<P> {
    const removed = this.#take(this.#removed, this.#o.assignedBytesMax);
    const removedFirst = this.#removed.size > 0 || removed.some((partition) => this.#named.has(partition));
    const partitions = removedFirst ? [] : this.#take(this.#named, this.#o.assignedBytesMax - this.#bytes(removed));
    this.#assigned = this.#removed.size > 0 || this.#named.size > 0;
    this.#inParts &&= this.#assigned;
    return { type: 'assigned', partitions, removed };
  }

  /** Takes as many as one event may have, and at least one. */
  #take(from: Set<P> | Map<P, unknown>, bytesMax: number): P[] {
    const taken: P[] = [];
    let bytes = 0;
    for (const partition of from.keys()) {
      bytes += this.#o.bytesOf(partition);
      if (bytes > bytesMax && taken.length > 0) break;
      taken.push(partition);
      from.delete(partition);
    }
    return taken;
  }

  #bytes(partitions: readonly P[]): number {
    return partitions.reduce((sum, partition) => sum + this.#o.bytesOf(partition), 0);
  }
}
