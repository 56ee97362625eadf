import { rejection, type RejectionOf } from './rejection.ts';

export function brokerFull(): RejectionOf<'BROKER_FULL'> {
  const message =
    "the broker's memory is nearly full: it takes no new member, group, subscription or partition; HEAP_MIB gives it more";
  return rejection('BROKER_FULL', message, {});
}

/** `call`: what the client should repeat. */
export function draining(call: 'publish' | 'subscribe'): RejectionOf<'DRAINING'> {
  return rejection('DRAINING', `this broker is shutting down: ${call} again, which reaches the next one`, {});
}

const notOwnerMessages = {
  STANDS_BY: 'this broker stands by: another one is active',
  TAKEN_OVER: 'another broker has taken over: subscribe again',
  DATABASE_SILENT:
    'the database does not answer this broker, which may have been replaced: try again, also at the others',
} as const;

export function notOwner(why: keyof typeof notOwnerMessages): RejectionOf<'NOT_OWNER'> {
  return rejection('NOT_OWNER', notOwnerMessages[why], {});
}
