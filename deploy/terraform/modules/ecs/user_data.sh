#!/bin/bash
# The node joins the cluster last: without the file system it must not get a task.
set -euo pipefail

%{ if file_system != null ~}
dnf install -y lustre-client # Amazon Linux keeps its packages in S3: the gateway endpoint is enough
mkdir -p ${mount_point}
echo "${file_system.dns_name}@tcp:/${file_system.mount_name} ${mount_point} lustre defaults,noatime,flock,_netdev 0 0" >> /etc/fstab
mount ${mount_point}
install -d -o 10001 -g 10001 ${mount_point}/store ${mount_point}/store/runs # the user of both images
%{ endif ~}

# Draining on a spot notice stops tasks of services; a training's own node process watches the notice itself.
cat >> /etc/ecs/ecs.config <<'EOF'
ECS_CLUSTER=${cluster}
ECS_ENABLE_SPOT_INSTANCE_DRAINING=true
ECS_CONTAINER_STOP_TIMEOUT=120s
ECS_AWSVPC_BLOCK_IMDS=true
ECS_ENABLE_GPU_SUPPORT=${gpu}
ECS_IMAGE_PULL_BEHAVIOR=prefer-cached
EOF
