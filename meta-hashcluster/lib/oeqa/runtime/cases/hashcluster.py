# SPDX-License-Identifier: MIT

"""A file is hashed over the protocol: client, controller and worker on one device."""

from oeqa.core.decorator.depends import OETestDepends
from oeqa.runtime.case import OERuntimeTestCase
from oeqa.runtime.decorator.package import OEHasPackage

FILE = "/tmp/hashcluster-test"
READY_WITHIN_S = 60


class HashclusterTest(OERuntimeTestCase):
    """Runs on an image with controller, worker and client."""

    def succeed(self, command):
        """Output of `command` on the device; a failing command fails the test."""
        status, output = self.target.run(command, timeout=READY_WITHIN_S)
        self.assertEqual(status, 0, msg=f"`{command}` gave {status}: {output}")
        return output

    @OETestDepends(["ssh.SSHTest.test_ssh"])
    @OEHasPackage(["hashcluster-controller"])
    @OEHasPackage(["hashcluster-worker"])
    @OEHasPackage(["hashctl"])
    def test_a_file_has_the_digest_that_sha256sum_gives(self):
        self.succeed(f"dd if=/dev/urandom of={FILE} bs=1000 count=1001 2>/dev/null")
        self.succeed("hashcluster-worker --name test </dev/null >/run/worker.log 2>&1 & echo started")
        self.succeed("hashctl status --ready 1")
        self.assertEqual(self.succeed(f"hashctl sum {FILE}"), self.succeed(f"sha256sum {FILE}"))

    @OETestDepends(["ssh.SSHTest.test_ssh"])
    def test_every_service_runs(self):
        for line in self.succeed("sv status /run/service/*").splitlines():
            self.assertTrue(line.startswith("run: "), msg=line)

    @OETestDepends(["ssh.SSHTest.test_ssh"])
    def test_the_root_cannot_be_written(self):
        status, _ = self.target.run("touch /written")
        self.assertNotEqual(status, 0, msg="/ can be written")
