import { Fault } from '../../errors/fault.ts';
import { notOwner as rejectedNotOwner } from '../../errors/rejections/broker.ts';
import type { Rejection } from '../../errors/rejections/rejection.ts';

/** What is refused because another broker owns the groups now. */
export function notOwner(): Fault {
  return new Fault('FENCED', 'this broker does not own the group any more');
}

/** What ends or refuses a call while another broker may own the groups: the client is to look for it. */
export function unsureOwner(): Rejection {
  return rejectedNotOwner('DATABASE_SILENT');
}

/**
 * Refuses what only the owner may say from memory: that a member lives, or is none, or that there is nothing for it. Whoever believed
 * a broker that is cut off from its database would wait there while its session ends at the one that has taken over.
 */
export function refuseIfUnsure({ mayDeliver }: { readonly mayDeliver: () => boolean }): void {
  if (!mayDeliver()) throw unsureOwner();
}
