"""A collector of OTLP's logs on gRPC's own server: prints its port, then each record as a line of JSON."""

import json
import sys
from concurrent import futures

import grpc
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc


class Collector(logs_service_pb2_grpc.LogsServiceServicer):
    def Export(self, request, context):
        for group in request.resource_logs:
            resource = MessageToDict(group.resource)
            for scope in group.scope_logs:
                for record in scope.log_records:
                    line = json.dumps({"resource": resource, "record": MessageToDict(record)})
                    sys.stdout.write(line + "\n")
        sys.stdout.flush()
        return logs_service_pb2.ExportLogsServiceResponse()


def main():
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=2))
    logs_service_pb2_grpc.add_LogsServiceServicer_to_server(Collector(), server)
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    # Whoever has started it kills it; one that has lost its test ends by itself.
    server.wait_for_termination(timeout=120)


main()
