terraform {
  required_version = ">= 1.10"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.90, < 6.0"
    }
  }
  backend "s3" {} # bucket, key, region, use_lockfile: deploy/README.md
}

provider "aws" {
  region = var.region
  default_tags {
    tags = merge({ application = local.name, managed-by = "terraform" }, var.tags)
  }
}

locals {
  name = "training-assets" # also in IAM policies, images and profiles
}
