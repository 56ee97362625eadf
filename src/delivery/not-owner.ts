import { Fault } from '../errors/fault.ts';

/** What is refused because another broker owns the groups now. */
export function notOwner(): Fault {
  return new Fault('FENCED', 'this broker does not own the group any more');
}
