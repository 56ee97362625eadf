import { Fault } from '../../errors/fault.ts';
import { notOwner as rejectedNotOwner } from '../../errors/rejections/broker.ts';
import type { Rejection } from '../../errors/rejections/rejection.ts';

/** The fault of a call after another broker has taken over. */
export function notOwner(): Fault {
  return new Fault('FENCED', 'this broker does not own the group any more');
}

/**
 * Rejects a call while another broker may own the groups, so that the client looks for that broker.
 */
export function unsureOwner(): Rejection {
  return rejectedNotOwner('DATABASE_SILENT');
}

/**
 * Rejects answers from memory while another broker may own the groups: for example that a member
 * lives, is removed, or has nothing to read. A client that believed a broker without a database
 * would wait there while its session expires at the new owner.
 */
export function refuseIfUnsure({ mayDeliver }: { readonly mayDeliver: () => boolean }): void {
  if (!mayDeliver()) throw unsureOwner();
}
