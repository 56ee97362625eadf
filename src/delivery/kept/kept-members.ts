import type { MemberId, MemberRow } from '../../coordinator/group.ts';
import { recounted, type Kept } from './kept.ts';
import { memberBytes } from './sizes.ts';

/** What the account counts for each member of one group. */
export class KeptMembers {
  readonly #kept: Kept;
  readonly #bytes = new Map<MemberId, number>();

  constructor(kept: Kept) {
    this.#kept = kept;
  }

  /** Counts the member as it is now. */
  count(row: MemberRow): void {
    const before = this.#bytes.get(row.memberId) ?? 0;
    this.#bytes.set(row.memberId, recounted(this.#kept.members, before, memberBytes(row)));
  }

  /** Counts nothing any more for the member, which is gone. */
  forget(memberId: MemberId): void {
    this.#kept.members.give(this.#bytes.get(memberId) ?? 0);
    this.#bytes.delete(memberId);
  }

  forgetAll(): void {
    for (const memberId of [...this.#bytes.keys()]) this.forget(memberId);
  }
}
