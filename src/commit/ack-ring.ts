import assert from 'node:assert/strict';
import { present } from '../errors/present.ts';

/**
 * The tables of the ack log. They are append-only, and the broker writes to one after the other.
 */
export const ackTables = [0, 1, 2] as const;
export type AckTable = (typeof ackTables)[number];

/** Prevents the truncation of a table of the ack log until it is released. */
export interface AckTableReference {
  readonly table: AckTable;
  release(): void;
}

/**
 * The current table of the ack log, and the references that keep older tables.
 *
 * An ack round moves the cursors in memory before it writes its row, so a fold that begins after
 * `turn` has its deltas. A settlement moves memory after its commit. It therefore holds a reference
 * to its table from before its transaction is sent until memory has moved. While an older table has
 * a reference, a fold takes no snapshot and truncates nothing. Otherwise the fold would write the
 * cursor without the settlement, and truncate the only row that has it.
 */
export class AckRing {
  #current: AckTable = 0;
  readonly #references = [0, 0, 0];
  #waiting: (() => void)[] = [];

  get current(): AckTable {
    return this.#current;
  }

  /** Takes a reference to the current table. */
  refer(): AckTableReference {
    const table = this.#current;
    let held = true;
    this.#count(table, 1);
    return {
      table,
      release: () => {
        if (held) this.#release(table);
        held = false;
      },
    };
  }

  /** Makes the next table the current one. */
  turn(): void {
    this.#current = ((this.#current + 1) % ackTables.length) as AckTable;
  }

  get olderAreFree(): boolean {
    return ackTables.every((table) => table === this.#current || this.#references[table] === 0);
  }

  /** Resolves when no older table has a reference. */
  async olderFree(): Promise<void> {
    while (!this.olderAreFree) await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }

  #count(table: AckTable, change: number): void {
    const references = present(this.#references[table], 'each table of the ring has a count');
    assert(references + change >= 0, 'a reference is released once');
    this.#references[table] = references + change;
  }

  #release(table: AckTable): void {
    this.#count(table, -1);
    for (const resolve of this.#waiting.splice(0)) resolve();
  }
}
