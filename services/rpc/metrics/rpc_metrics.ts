import type { CallObserver } from "../grpc_service.ts";
import { Counter } from "./counter.ts";
import { Histogram } from "./histogram.ts";
import { gauge, type MetricFamily } from "./metric_family.ts";

/** What a gRPC server counts about its calls. */
export class RpcMetrics {
  readonly #requests = new Counter("drtune_rpc_requests_total", "Answered calls.");
  readonly #durations = new Histogram(
    "drtune_rpc_duration_seconds",
    "Time from a call's start to its end.",
  );
  #going = 0;

  /** For `startGrpcServer`. */
  readonly observe: CallObserver = ({ service, method }) => {
    this.#going++;
    return ({ status, seconds }) => {
      this.#going--;
      this.#requests.add({ service, method, status });
      this.#durations.observe({ service, method }, seconds);
    };
  };

  families(): MetricFamily[] {
    return [
      this.#requests.family(),
      this.#durations.family(),
      gauge("drtune_rpc_in_progress", "Calls that go on now.", { samples: [[{}, this.#going]] }),
    ];
  }
}
