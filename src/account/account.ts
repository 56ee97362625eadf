import { present } from '../errors/present.ts';
import type { Budget } from './budget.ts';
import { Kind, Pool } from './kind.ts';
import { kinds, type KindName, type KindRow, type PoolName } from './kinds.ts';
import { Owner } from './owner.ts';

/**
 * The account of memory: what clients make the broker hold, in bytes, before the broker holds it.
 *
 *   Account ── Pool (kept, passing, buffers) ── Kind (a row of kinds.ts) ── OwnedKind (of an Owner)
 *
 * 1. `take` succeeds if the kind, its pool and the owner have room. Otherwise it counts nothing.
 * 2. `force` counts what cannot be refused, beyond the limits too: loaded state, a cache that
 *    evicts right after. `give` gives back exactly what was taken or forced before.
 * 3. A kind that can evict makes room: for itself first, then for the other kinds of its pool.
 * 4. A Hold is released once, however often its owner releases it.
 * 5. An Owner (a connection, an open broker) gives back everything when it closes. From then on
 *    it takes nothing, and what is given back later was given back already.
 *
 * The bytes of an object are weights (weights.ts), which a test compares with the real heap.
 */
export class Account {
  readonly #pools: Readonly<Record<PoolName, Pool>>;
  readonly #kinds: ReadonlyMap<KindName, Kind>;

  /** `mayKeep`: the second opinion about `kept`, of the heap itself. */
  constructor(budget: Budget, mayKeep: () => boolean = () => true) {
    const { kept, passing, buffers } = budget.pools;
    this.#pools = {
      kept: new Pool(kept, mayKeep),
      passing: new Pool(passing),
      buffers: new Pool(buffers),
    };
    const names = Object.keys(kinds) as KindName[];
    this.#kinds = new Map(names.map((name) => [name, this.#kindOf(name, budget.kinds[name])] as const));
  }

  kind(name: KindName): Kind {
    return present(this.#kinds.get(name), 'the account has every kind of the table');
  }

  /** A part of the account whose bytes all come back when it closes. */
  owner(): Owner {
    return new Owner((name) => this.kind(name));
  }

  /** Whether `kept` has room. */
  get mayKeep(): boolean {
    const { kept } = this.#pools;
    return kept.mayTake() && kept.bytes < kept.bytesMax;
  }

  poolBytes(pool: PoolName): { readonly bytes: number; readonly bytesMax: number } {
    const { bytes, bytesMax } = this.#pools[pool];
    return { bytes, bytesMax };
  }

  /** For /metrics. */
  *kinds(): Generator<Kind> {
    yield* this.#kinds.values();
  }

  #kindOf(name: KindName, bytesMax: number): Kind {
    const row: KindRow = kinds[name];
    const kind = new Kind(name, this.#pools[row.pool], bytesMax);
    this.#pools[row.pool].kinds.push(kind);
    return kind;
  }
}
