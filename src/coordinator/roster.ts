import { Member } from './member.ts';
import type { MemberId, MemberRow } from './snapshot.ts';

/** The members of a group: found by id and by instance id, in the order of joining. */
export class Roster {
  #byId = new Map<MemberId, Member>();
  /** A replacement has come behind the members that joined later. */
  #isOutOfOrder = false;
  readonly #byInstance = new Map<string, Member>();
  #joinSeqNext = 0;

  get size(): number {
    return this.#byId.size;
  }

  get joinSeqNext(): number {
    return this.#joinSeqNext;
  }

  /** The member that joined first. */
  get first(): Member | undefined {
    for (const member of this) return member;
    return undefined;
  }

  /** In the order of joining. */
  [Symbol.iterator](): IterableIterator<Member> {
    // Sorted when it is read, because a thousand processes may be replaced before that.
    if (this.#isOutOfOrder) {
      const rows = [...this.#byId].sort(([, a], [, b]) => a.row.joinSeq - b.row.joinSeq);
      this.#byId = new Map(rows);
      this.#isOutOfOrder = false;
    }
    return this.#byId.values();
  }

  /** Members that may get partitions. */
  takers(): Member[] {
    return Array.from(this).filter(({ stalled }) => !stalled);
  }

  find(memberId: MemberId): Member | undefined {
    return this.#byId.get(memberId);
  }

  findInstance(instanceId: string | null): Member | undefined {
    return instanceId === null ? undefined : this.#byInstance.get(instanceId);
  }

  admit(row: MemberRow): Member {
    const member = new Member(row);
    this.#byId.set(row.memberId, member);
    if (row.instanceId !== null) this.#byInstance.set(row.instanceId, member);
    this.#joinSeqNext = Math.max(this.#joinSeqNext, row.joinSeq + 1);
    return member;
  }

  remove({ row }: Member): void {
    this.#byId.delete(row.memberId);
    if (row.instanceId !== null) this.#byInstance.delete(row.instanceId);
  }

  /** The new member takes the place of the old one in the order of joining. */
  replace(old: Member, row: MemberRow): Member {
    const member = new Member(row);
    this.#byId.delete(old.row.memberId);
    this.#byId.set(row.memberId, member);
    this.#isOutOfOrder = true;
    if (old.row.instanceId !== null) this.#byInstance.delete(old.row.instanceId);
    if (row.instanceId !== null) this.#byInstance.set(row.instanceId, member);
    return member;
  }
}
