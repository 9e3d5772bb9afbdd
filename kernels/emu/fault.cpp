// Memory faults in kernels become errors of the launch: the handler sends the fiber to a function
// that ends it. Faults elsewhere go to whoever handled them before.
#include <signal.h>
#include <stdint.h>
#include <ucontext.h>

#include <string>

#include "emu/driver.h"
#include "emu/runtime.h"

namespace emu {
namespace {

struct sigaction before_segv, before_bus;
void* fault_address;
bool fault_without_address;

// Runs at the top of the fiber's stack, which nobody needs any more.
void end_launch() {
  if (fault_without_address)
    fail_with(ERROR_MISALIGNED_ADDRESS, "misaligned address (or one that no pointer can have)");
  if (stack_overflow(fault_address)) fail_with(ERROR_LAUNCH_FAILED, "stack overflow: too many or too large local arrays");
  fail_with(ERROR_ILLEGAL_ADDRESS, "illegal address: " + describe(reinterpret_cast<uintptr_t>(fault_address)));
}

bool redirect(void* context) {
#if defined(__x86_64__)
  auto& registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  registers[REG_RSP] = reinterpret_cast<greg_t>(abandoned_stack()) - 8;  // as after a call
  registers[REG_RIP] = reinterpret_cast<greg_t>(&end_launch);
  return true;
#elif defined(__aarch64__)
  auto& machine = static_cast<ucontext_t*>(context)->uc_mcontext;
  machine.sp = reinterpret_cast<uintptr_t>(abandoned_stack());
  machine.pc = reinterpret_cast<uintptr_t>(&end_launch);
  return true;
#else
  (void)context;
  return false;
#endif
}

void on_fault(int signal_number, siginfo_t* info, void* context) {
  if (in_kernel()) {
    fault_address = info->si_addr;
    fault_without_address = info->si_code == SI_KERNEL;
    if (redirect(context)) return;
  }
  const struct sigaction& before = signal_number == SIGSEGV ? before_segv : before_bus;
  if (before.sa_flags & SA_SIGINFO) return before.sa_sigaction(signal_number, info, context);
  signal(signal_number, SIG_DFL);
  raise(signal_number);
}

}  // namespace

void catch_faults() {
  struct sigaction action {};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  sigaction(SIGSEGV, &action, &before_segv);
  sigaction(SIGBUS, &action, &before_bus);
}

}  // namespace emu
