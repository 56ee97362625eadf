import { rejection, type FieldsOf, type RejectionOf } from './rejection.ts';

export function brokerFull(): RejectionOf<'BROKER_FULL'> {
  const message =
    "the broker's memory is nearly full: it takes no new member, group, subscription or partition; HEAP_MIB gives it more";
  return rejection('BROKER_FULL', message, {});
}

export function brokerBusy({ kind, bytesMax }: FieldsOf<'BROKER_BUSY'>): RejectionOf<'BROKER_BUSY'> {
  const message = `the broker has no memory for more ${kind} at the moment (at most ${bytesMax} bytes): repeat later`;
  return rejection('BROKER_BUSY', message, { kind, bytesMax });
}

export function connectionBusy({ kind, bytesMax }: FieldsOf<'CONNECTION_BUSY'>): RejectionOf<'CONNECTION_BUSY'> {
  const message = `this connection has as many ${kind} as one may have (${bytesMax} bytes): let some of its calls end`;
  return rejection('CONNECTION_BUSY', message, { kind, bytesMax });
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
