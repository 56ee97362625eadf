import type { HandlerContext as ConnectContext } from '@connectrpc/connect';
import { callerOf } from '../caller.ts';
import type { Call } from '../handlers/call.ts';
import { requestFacts } from './request-facts.ts';

/** A call of connect-node as the handlers see it. */
export function callOf(context: ConnectContext): Call {
  return { caller: callerOf(context.values.get(requestFacts).host), signal: () => context.signal };
}

/** The request as it was decoded before connect-node saw it; else as connect-node decoded it. */
export function decodedOr<M>(context: ConnectContext, message: M): M {
  return (context.values.get(requestFacts).decoded ?? message) as M;
}
