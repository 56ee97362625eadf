/** The tables of the ack log: append-only, used in turn. */
export const ackTables = [0, 1, 2] as const;
export type AckTable = (typeof ackTables)[number];

/** Keeps a table of the ack log from being truncated until it is released. */
export interface AckTableReference {
  readonly table: AckTable;
  release(): void;
}

/**
 * Which table of the ack log is written to, and which older ones are still needed.
 *
 * The deltas of an ack round are in memory before its row is written, so a fold that begins after the turn has them. The delta of a
 * settlement is not: memory moves after the commit. So a settlement refers to its table from before its transaction is sent until memory has
 * moved, and a fold takes no snapshot, and truncates nothing, while an older table is referred to. Otherwise the fold would
 * write the cursor without the settlement and truncate the only row that has it.
 */
export class AckRing {
  #current: AckTable = 0;
  readonly #references = [0, 0, 0];
  #waiting: (() => void)[] = [];

  get current(): AckTable {
    return this.#current;
  }

  /** Refers to the current table. */
  refer(): AckTableReference {
    const table = this.#current;
    let held = true;
    this.#references[table]!++;
    return {
      table,
      release: () => {
        if (held) this.#release(table);
        held = false;
      },
    };
  }

  /** What is written from now on goes to the next table. */
  turn(): void {
    this.#current = ((this.#current + 1) % ackTables.length) as AckTable;
  }

  get olderAreFree(): boolean {
    return ackTables.every((table) => table === this.#current || this.#references[table] === 0);
  }

  /** Resolves when no settlement refers to an older table any more. */
  async olderFree(): Promise<void> {
    while (!this.olderAreFree) await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }

  #release(table: AckTable): void {
    this.#references[table]!--;
    for (const resolve of this.#waiting.splice(0)) resolve();
  }
}
