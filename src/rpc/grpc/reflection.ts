import { toBinary } from '@bufbuild/protobuf';
import {
  ServerReflectionRequestSchema,
  ServerReflectionResponseSchema,
} from '../../../gen/grpc/reflection/v1/reflection_pb.js';
import type { ReportBug } from '../edge/errors.ts';
import { decodeBinary } from '../translation/decode.ts';
import type { Reflection } from '../handlers/reflection.ts';
import type { RawBidiStream } from './definition.ts';
import { asBuffer } from './methods.ts';
import type { OpenStreams } from './open-streams.ts';
import { statusOf } from './status.ts';

/**
 * Reflection as a method of grpc-js. v1alpha has the same messages as v1 under another name, so
 * this serves both.
 */
export function reflectionMethod(reflection: Reflection, streams: OpenStreams, reportBug: ReportBug) {
  return (call: RawBidiStream): void => {
    streams.opened(call, () => {
      call.end();
    });
    call.on('end', () => {
      call.end();
    });
    call.on('data', (bytes: Buffer) => {
      try {
        const answer = reflection.answer(decodeBinary(ServerReflectionRequestSchema, bytes));
        call.write(asBuffer(toBinary(ServerReflectionResponseSchema, answer)));
      } catch (error) {
        call.emit('error', statusOf(error, reportBug));
      }
    });
  };
}
