import type { ServerOptions } from 'node:http2';
import { limits } from '../../limits/limits.ts';

/** What a client may do on an HTTP/2 connection, for Node's servers of both edges. */
export const sessionLimits: Pick<
  ServerOptions,
  | 'streamResetBurst'
  | 'streamResetRate'
  | 'maxHeaderListPairs'
  | 'maxSettings'
  | 'maxOutstandingPings'
  | 'maxSessionInvalidFrames'
> = {
  streamResetBurst: limits.streamResetBurst,
  streamResetRate: limits.streamResetsPerSecond,
  maxHeaderListPairs: limits.requestHeadersMax,
  maxSettings: limits.http2SettingsMax,
  maxOutstandingPings: limits.http2PingsMax,
  maxSessionInvalidFrames: limits.http2InvalidFramesMax,
};
